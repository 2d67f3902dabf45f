#pragma once
#include "manual.hpp"

namespace tools {

/// loraga_plan's page, but for the options.
inline manual plan_manual() {
  return {"loraga_plan",
          "says what many ranks will need for LoRA-GA: memory, traffic, passes and time",
          "loraga_plan MODEL [--ranks N...] [--split data|tensor] [option]...",
          R"(Predicts the estimate of the gradients, the start and the training of adapters, on one
or many ranks, from the formulas of the library's algorithms. Nothing is run, and no
weight is read. Messages and bytes are those of the code; times are as good as the
machine's constants, which are assumed unless they are given or measured.)",
          {{"MODELS",
            R"(A name:   llama-2-7b, llama-2-70b, llama-3.1-405b, mixtral-8x7b
Files:    a safetensors file, an index.json or their folder, or a GGUF file: shapes are
          read from the headers. Experts need config.json or --active-experts.
Shapes:   OUTxIN or OUTxIN*COUNT, with commas between several: 4096x4096*32,1024x4096*64;
          sides up to 2^24, 100000 layers at most. All of them get adapters.)"},
           {"ACCUMULATORS",
            R"(dense        whole gradients, summed over ranks
sign         the same, for LoRA-SB
offloaded    whole gradients in the host's memory
incremental  a truncated SVD that follows the micro-batches; ranks merge theirs
background   the same beside the training
projected    the same, and a second pass over the sample within its directions
streamed     a truncated SVD that all ranks follow together, product by product
statistics   of layers' inputs, for EVA and CorDA; the start is EVA's)"},
           {"COLUMNS",
            R"(passes      Estimate: over the sample. Start: over each whole gradient, of the layer that
            takes most; 0 where triplets are taken as they are.
keeps       bytes that the accumulators hold from one micro-batch to the next; with "host"
            they lie in the host's memory
scratch     bytes more while it works, the most at a time
with model  the base's weights, adapters, what is kept and scratch, of one rank
work        operations
sends       bytes
of dense    those bytes as a share of what summing up dense gradients sends; - where
            nothing is sent, and with --split tensor
messages    as the code makes them. Those of one rank go nowhere: nothing is sent, and they
            take no time. The same holds for its meetings.)"},
           {"WHAT IS COUNTED",
            R"(Memory of one rank: weights, adapters with gradients, AdamW's moments and the frozen
start, accumulators, and scratch of one layer at a time. Not: activations.
Operations: the base forth and back (4 for every parameter and token; its own gradients
are not made), attention scores left out, and every product of the library's algorithms.
A step that finds trouble (a breakdown, a scale far from 1) works twice; no plan sees that.
Bytes that one rank sends, where all share the work as a ring does: 2*(1 - 1/ranks) for
a sum, 1 - 1/ranks for a broadcast. Meetings are messages of a few bytes in which ranks
agree; their bytes are not counted. A message takes its bytes, and latency for each hop:
log2(ranks) for a broadcast or a meeting, twice that for a sum.
Time: each product takes the longer of its operations and its memory; work and network
do not overlap. The rank that has most to do counts.
With --split tensor all ranks see every micro-batch. The sums of activations, which such
a model needs anyway, are not counted.)"},
           {"EXAMPLES",
            R"(loraga_plan llama-2-7b --ranks 1 8 64 --plot plan.png
loraga_plan llama-3.1-405b --split tensor --ranks 8 --bits 4.5
loraga_plan model.safetensors --rank 16 --measure --json plan.json)"},
           {"EXIT STATUS", exit_status}}};
}

}  // namespace tools
