#pragma once
#include "manual.hpp"

namespace tools {

/// loraga_init's page, but for the options.
inline manual init_manual() {
  return {"loraga_init",
          "starts a low-rank adapter for a model, for training in Python",
          R"(loraga_init --base PATH --out FOLDER (--family NAME | --target-modules NAME...)
            [--method NAME] [--rank R] [--ranks RULE] [option]...)",
          R"(Makes A and B of an adapter for every selected layer of a model, by any of the
methods below, and writes them as Hugging Face PEFT does. Works layer by layer, in
memory for one layer. No file appears before all layers are done.)",
          {{"METHODS",
            R"(Without further files; the model starts unchanged:
  lora            A uniform, B zero: LoRA's own
  gaussian        A normal, B zero
  orthogonal      B*A zero, neither of them; wants an even --rank
From random numbers or the weights; say --relative-to:
  gaussian-pair   A and B normal; --scale stable as large as lora-ga's
  pissa           the principal part of W
  milora          the minor part of W
  olora           the first columns of W, made orthonormal
From layers' inputs, --inputs:
  corda           the part of W the inputs single out, or (--part kpm) leave alone;
                  say --relative-to
  eva             A looks where the inputs vary most, B zero; its own --ranks explained
From gradients, --gradients:
  lora-ga         singular vectors of the gradient (the default); say --relative-to
  lora-one        the model starts one step ahead along them; the base stays
  gora            the same along random directions; its own --ranks importance
  lora-sb         the same as AdamW's first step. PEFT has no form in which R alone is
                  trained: what is written is a LoRA, and trains A and B)"},
           {"RANKS",
            R"(same         --rank for every layer
spectra      what gradients need: singular values of the gradients (pissa without
             --gradients: of the weights) are bought with --parameters, or with what
             --mean-rank everywhere costs
importance   GoRA's: by mean|W*G| of every layer
explained    EVA's: by the variance of the inputs that each direction explains; a layer
             may get none
The last three measure all layers first, in a pass of its own. s stays the same for all
layers (alpha/r with the mean rank), or is alpha/sqrt(r) of each with --rslora; PEFT is
told by rank_pattern and alpha_pattern.)"},
           {"RELATIVE TO",
            R"(An adapter whose start is not zero must be taken back somewhere:
  anchored   the usual way: A and B of rank r, for training in PEFT on a changed base
             W - s*B*A, which --anchored-base gets. OUT/start keeps the start: after
             training, loraga_adapter convert --start OUT/start makes an adapter for
             the original base. A 16-bit base takes the change up to its rounding.
  original   rank 2r, adds nothing to the original base at first. To look at and to
             serve; training both halves does not have the method's dynamics.)"},
           {"EXAMPLES",
            R"(loraga_init --base model --gradients captured.safetensors --family llama \
            --relative-to anchored --anchored-base changed --out adapter
loraga_init --base model --method eva --inputs captured.safetensors \
            --family llama --out adapter)"},
           {"FILES",
            R"(--base and --out are folders as transformers and PEFT have them. --gradients and
--inputs are safetensors files (or folders of them), of F64, F32, F16 or BF16, which may
be one and the same. They hold, for a module M of the base:
  M.weight              the mean gradient, named and laid out like the base's weight; or
  M.dY, M.X             tokens x out and tokens x in: what came back into the layer and
                        what went into it; or
  M.dY.0, M.X.0, M.dY.1, ...   the same for several micro-batches, which count alike
Gradients may be any of these; of inputs only X is read. M may lack .weight, and have
what DDP, FSDP, torch.compile and PEFT put into names.

OUT/adapter_model.safetensors, OUT/adapter_config.json   for PEFT
OUT/layers.csv   rank, s and coverage of each layer: the share of the gradient (weight,
                 variance of the inputs) in the directions that were used
OUT/start        the start of an adapter for an anchored base)"},
           {"EXIT STATUS", exit_status}}};
}

}  // namespace tools
