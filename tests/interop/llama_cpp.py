"""Does llama.cpp compute with our GGUF adapters what PEFT computes?

    llama_cpp.py --writer GGUF_WRITER --llama-cpp SOURCES --work EMPTY_FOLDER [--only FAMILY ...]

For small random models of each family that loraga/io/gguf.hpp names: the base goes to GGUF through llama.cpp's
convert_hf_to_gguf.py, adapters with ranks and scales of their own per layer through our writer, and llama.cpp's outputs
are held against those of transformers and PEFT. Adapters of one rank and one alpha are also held against llama.cpp's
convert_lora_to_gguf.py, tensor by tensor, and names against its gguf-py.

GGUF_WRITER is gguf_writer.cpp of this folder, compiled with the library's include folder:
    g++ -std=c++20 -O2 -I include tests/interop/gguf_writer.cpp -o gguf_writer
The Python that runs this needs torch, transformers, peft, safetensors and llama-cpp-python; written with
llama-cpp-python 0.3.36, which compiles llama.cpp when it is installed from its source package (ten minutes or so on one
core; CMAKE_ARGS="-DLLAMA_BUILD_TOOLS=OFF" and CMAKE_BUILD_PARALLEL_LEVEL say how), peft 0.21, transformers 5.24.
SOURCES is llama.cpp's source tree of the same version; the source package of llama-cpp-python has it in
vendor/llama.cpp. Nothing is fetched: models are random, and the GGUF bases have no vocabulary.
"""

import argparse
import ctypes
import os
import runpy
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
parser = argparse.ArgumentParser()
parser.add_argument("--writer", type=Path, required=True)
parser.add_argument("--llama-cpp", type=Path, required=True)
parser.add_argument("--work", type=Path, required=True)
parser.add_argument("--only", nargs="*")
options = parser.parse_args()
here = str(Path(__file__).resolve().parent)
sys.path = [p for p in sys.path if p != here]  # this file is called like the package
sys.path[:0] = [str(options.llama_cpp), str(options.llama_cpp / "gguf-py")]

import conversion  # llama.cpp's converters
import gguf
import llama_cpp
import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model

quiet = llama_cpp.llama_log_callback(lambda level, text, data: said.append(text.decode(errors="replace")))
said = []
llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
failures = 0


def check(good, text):
    global failures
    failures += not good
    print(("ok    " if good else "FAILS ") + text, flush=True)


# ---------------------------------------------------------------------------------------------------------- the models
decoder = dict(vocab_size=96, hidden_size=64, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4,
               num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False)
t5 = dict(vocab_size=96, d_model=64, d_kv=16, d_ff=112, num_layers=2, num_decoder_layers=2, num_heads=4,
          relative_attention_num_buckets=8, decoder_start_token_id=0, tie_word_embeddings=False)  # flan-T5's way
decoder_targets = r".*\.(q|k|v|o|gate|up|down)_proj|lm_head"
t5_targets = r".*\.(q|k|v|o|wi|wi_0|wi_1|wo)|lm_head"
T = transformers
families = {  # architecture in GGUF, model, configuration, layers to adapt
    "llama": ("llama", T.LlamaForCausalLM, T.LlamaConfig(**decoder), decoder_targets),
    "mistral": ("llama", T.MistralForCausalLM, T.MistralConfig(**decoder, sliding_window=None), decoder_targets),
    "qwen2": ("qwen2", T.Qwen2ForCausalLM, T.Qwen2Config(**decoder), decoder_targets),
    "qwen3": ("qwen3", T.Qwen3ForCausalLM, T.Qwen3Config(**decoder, head_dim=16), decoder_targets),
    "gpt2": ("gpt2", T.GPT2LMHeadModel, T.GPT2Config(vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=64,
                                                     n_ctx=64),
             r".*\.(c_attn|c_proj|c_fc)|lm_head"),
    "bert": ("bert", T.BertModel, T.BertConfig(vocab_size=96, hidden_size=64, intermediate_size=112,
                                               num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64),
             r"encoder\..*\.(query|key|value|dense)"),
    "t5": ("t5", T.T5ForConditionalGeneration, T.T5Config(**t5), t5_targets),
    "t5_gated": ("t5", T.T5ForConditionalGeneration, T.T5Config(**t5, feed_forward_proj="gated-gelu"), t5_targets),
}
tokens = [3, 17, 42, 9, 95, 0, 33, 64]


def outputs(model, architecture):
    """Logits of every token, or its last hidden state where there is no head."""
    ids = torch.tensor([tokens])
    with torch.no_grad():
        if architecture == "bert":
            return model(input_ids=ids).last_hidden_state[0].numpy()
        if architecture == "t5":
            return model(input_ids=ids, decoder_input_ids=torch.tensor([[0] + tokens[:4]])).logits[0].numpy()
        return model(input_ids=ids).logits[0].numpy()


def fresh_model(build, config):
    """The same random model each time, with weights of a size at which all layers count."""
    torch.manual_seed(1)
    config.tie_word_embeddings = False  # T5's configuration sets it back
    model = build(config)
    for name, p in model.named_parameters():
        if p.dim() == 2 and "embed" not in name and name not in ("wte.weight", "shared.weight"):
            torch.nn.init.normal_(p, std=1 / p.shape[1] ** 0.5)
    if hasattr(model, "shared"):  # T5 has one embedding; untied, it starts as three
        for part in (model.encoder, model.decoder):
            part.embed_tokens.weight.data.copy_(model.shared.weight)
    return model.eval().float()


def adapted(model, targets, seed, **config):
    peft = get_peft_model(model, LoraConfig(target_modules=targets, lora_dropout=0.0, **config)).eval()
    torch.manual_seed(seed)
    for name, p in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.5 / p.shape[1] ** 0.5)
    return peft


# ------------------------------------------------------------------------------------------------------------ the files
def run_script(name, *arguments):
    argv, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        runpy.run_path(str(options.llama_cpp / name), run_name="__main__")
    finally:
        sys.argv = argv


def without_vocabulary(folder, architecture):
    """Makes the converter of this model leave the vocabulary out."""
    hparams = conversion.ModelBase.load_hparams(folder, False)
    of = conversion.get_model_class(conversion.get_model_architecture(hparams, conversion.ModelType.TEXT))

    def set_vocab(self):
        self._set_vocab_none()
        self.vocab_size = hparams["vocab_size"]
        if architecture != "llama":  # whose converter does it itself
            self.gguf_writer.add_vocab_size(hparams["vocab_size"])
        if architecture == "bert":
            self.gguf_writer.add_token_type_count(hparams["type_vocab_size"])

    of.set_vocab = set_vocab


def layers_of(peft):
    for name, layer in peft.named_modules():
        if hasattr(layer, "lora_A") and "default" in layer.lora_A:
            a, b = (x["default"].weight.detach().numpy() for x in (layer.lora_A, layer.lora_B))
            yield name.removeprefix("base_model.model."), layer.scaling["default"], a, b


def ours(peft, out, architecture, config, type="F32", start={}):
    lines, numbers = [], b""
    for module, scale, a, b in layers_of(peft):
        matrices = [a, b, *start.get(module, ())]
        rank0 = start[module][0].shape[0] if module in start else 0
        lines.append(f"{module} {scale!r} {a.shape[0]} {a.shape[1]} {b.shape[0]} {rank0}\n")
        numbers += b"".join(np.ascontiguousarray(m, dtype="<f4").tobytes() for m in matrices)
    records, data = out.with_suffix(".records"), out.with_suffix(".numbers")
    records.write_text("".join(lines))
    data.write_bytes(numbers)
    heads = [config.num_attention_heads, config.num_key_value_heads] if architecture == "llama" else [0, 0]
    subprocess.run([options.writer, records, data, out, architecture, *map(str, heads), type], check=True)


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


# -------------------------------------------------------------------------------------------------------- llama.cpp
def llama(base, adapter, architecture):
    """The same outputs from llama.cpp, in float32 throughout."""
    L = llama_cpp
    model = L.llama_model_load_from_file(str(base).encode(), L.llama_model_default_params())
    assert model, "".join(said[-20:])
    p = L.llama_context_default_params()
    p.n_ctx, p.n_batch, p.n_ubatch, p.n_threads, p.n_threads_batch = 64, 64, 64, 1, 1
    p.type_k = p.type_v = 0  # float32
    p.flash_attn_type = 0    # none
    p.embeddings = architecture == "bert"
    p.pooling_type = 0       # none: an output for each token
    context = L.llama_init_from_model(model, p)
    assert context, "".join(said[-20:])
    if adapter:
        lora = L.llama_adapter_lora_init(model, str(adapter).encode())
        assert lora, "".join(said[-20:])
        adapters, strengths = (L.llama_adapter_lora_p_ctypes * 1)(lora), (ctypes.c_float * 1)(1)
        assert L.llama_set_adapters_lora(context, adapters, 1, strengths) == 0
    width = L.llama_model_n_embd(model) if p.embeddings else L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))

    def step(run, ids):
        batch = L.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, t in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = t, i, 1, 1
            batch.seq_id[i][0] = 0
        assert run(context, batch) == 0, "".join(said[-20:])
        L.llama_batch_free(batch)

    ids = tokens
    if architecture == "t5":
        step(L.llama_encode, tokens)
        ids = [0] + tokens[:4]
    step(L.llama_decode, ids)
    read = L.llama_get_embeddings_ith if p.embeddings else L.llama_get_logits_ith
    result = np.array([np.ctypeslib.as_array(read(context, i), (width,)).copy() for i in range(len(ids))])
    L.llama_free(context)
    L.llama_model_free(model)
    return result


def far(x, y):
    return float(np.abs(x - y).max() / np.abs(y).max())


def compare(what, found, wanted, plain, floor):
    """`floor` is how far llama.cpp is from transformers without any adapter."""
    error, effect = far(found, wanted), far(plain, wanted)
    check(error <= 4 * min(floor, 1e-2) and effect > 0.1,
          f"{what}: differs from PEFT by {error:.1e}, the adapter changes outputs by {effect:.2f}")


# ---------------------------------------------------------------------------------------------------------------- all
def examine(name):
    architecture, build, config, targets = families[name]
    work = options.work / name
    work.mkdir(parents=True)
    fresh = lambda: fresh_model(build, config)
    fresh().save_pretrained(work / "base")
    without_vocabulary(work / "base", architecture)
    base = work / "base.gguf"
    run_script("convert_hf_to_gguf.py", work / "base", "--outfile", base, "--outtype", "f32")
    plain, plain_llama = outputs(fresh(), architecture), llama(base, None, architecture)
    floor = far(plain_llama, plain)
    check(floor < 2e-3, f"{name}: the base differs by {floor:.1e}")

    # Every layer with a rank and a scale of its own.
    modules = [m for m, *_ in layers_of(adapted(fresh(), targets, 3, r=4))]
    own = dict(r=4, lora_alpha=8, use_rslora=True, rank_pattern={m: 1 + i % 7 for i, m in enumerate(modules)},
               alpha_pattern={m: 2 + 1.5 * (i % 5) for i, m in enumerate(modules)})
    peft = adapted(fresh(), targets, 4, **own)
    scales = {(len(a), s) for _, s, a, _ in layers_of(peft)}
    wanted = outputs(peft, architecture)
    for stored, slack in (("F32", 0), ("F16", 1e-3), ("BF16", 1e-2)):
        out = work / f"own_{stored}.gguf"
        ours(peft, out, architecture, config, stored)
        compare(f"{name} {stored}, {len(modules)} layers, {len(scales)} pairs of rank and scale",
                llama(base, out, architecture), wanted, plain, floor + slack)

    names = gguf.get_tensor_name_map(next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == architecture), 2)
    theirs = {names.get_name(m + ".weight", (".weight",)) + x for m in modules for x in (".lora_a", ".lora_b")}
    mine = set(tensors(work / "own_F32.gguf"))
    check(mine == theirs, f"{name}: {len(mine)} names are those of gguf-py")

    # One rank, one alpha: what the converter can do as well. It transposes GPT-2's factors, which PEFT has already.
    peft = adapted(fresh(), targets, 5, r=4, lora_alpha=12)
    peft.save_pretrained(work / "peft")
    out, official = work / "uniform.gguf", work / "official.gguf"
    ours(peft, out, architecture, config)
    compare(f"{name} uniform", llama(base, out, architecture), outputs(peft, architecture), plain, floor)
    if architecture != "gpt2":
        run_script("convert_lora_to_gguf.py", work / "peft", "--base", work / "base", "--outfile", official)
        mine, theirs = tensors(out), tensors(official)
        same = mine.keys() == theirs.keys() and all(
            mine[n].tensor_type == theirs[n].tensor_type and list(mine[n].shape) == list(theirs[n].shape) and
            np.array_equal(mine[n].data, theirs[n].data) for n in mine)
        keys = [{k: f.contents() for k, f in gguf.GGUFReader(p).fields.items()} for p in (out, official)]
        wanted_keys = ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha")
        same_keys = all(keys[0][k] == keys[1][k] for k in wanted_keys)
        check(same and same_keys, f"{name}: {len(mine)} tensors equal the converter's to the bit, and so do the keys")

    # Anchored in place: trained on W - s*B0*A0, widened for use with W.
    if name == "llama":
        anchored = fresh()
        start = {}
        with torch.no_grad():
            for module, scale, a, b in layers_of(peft):
                random = np.random.default_rng(len(start))
                start[module] = [random.normal(size=m.shape).astype("f4") / 8 for m in (a, b)]
                w = anchored.get_submodule(module).weight
                w -= scale * torch.from_numpy(start[module][1] @ start[module][0])
        peft = adapted(anchored, targets, 5, r=4, lora_alpha=12)
        out = work / "widened.gguf"
        ours(peft, out, architecture, config, start=start)
        compare(f"{name} anchored and widened", llama(base, out, architecture), outputs(peft, architecture), plain,
                floor)
        with_wrong_heads = type(config)(**{**decoder, "num_attention_heads": 2, "num_key_value_heads": 1})
        ours(peft, out, architecture, with_wrong_heads, start=start)
        error = far(llama(base, out, architecture), outputs(peft, architecture))
        check(error > 100 * floor, f"{name} with wrong heads: differs by {error:.2f}, so the order of rows is seen")


for name in options.only or families:
    examine(name)
print("all good" if failures == 0 else f"{failures} checks failed")
sys.exit(failures != 0)
