"""Adapters that PEFT wrote, read here."""
import json
import shutil

import numpy as np
import torch
from peft import AdaLoraConfig, LoraConfig, LoraGAConfig, get_peft_model
from peft.tuners.lora import preprocess_loraga
from peft.tuners.lora.config import KasaConfig, VeloraConfig
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

from models import KINDS, convolutions, layer_data, layer_outputs, lora_layers, merged_weights, open_adapter, write
from to_peft import LIMIT

TARGETS = {"chain": ["q_proj", "k_proj", "o_proj"], "gpt2": ["c_attn", "c_proj", "c_fc"],
           "pictures": ["words", "conv", "wide", "point", "head"], "llama": ["q_proj", "v_proj", "down_proj"], "bert": ["query", "value", "output.dense"]}

# name: (kind, LoraConfig's arguments beside target_modules)
PLAIN = {
    "lora": ("chain", dict(r=4, lora_alpha=8)),
    "lora, dropout and exclusions": ("chain", dict(r=3, lora_alpha=5, lora_dropout=0.1, exclude_modules=["11.q_proj"])),
    "rsLoRA, patterns by name": ("chain", dict(
        r=4, lora_alpha=8, use_rslora=True, rank_pattern={"model.layers.1.q_proj": 2, "k_proj": 3},
        alpha_pattern={"model.layers.11.k_proj": 5, "layers.0.o_proj": 16})),
    "rsLoRA, patterns by expression": ("chain", dict(
        r=4, lora_alpha=8, use_rslora=True,
        rank_pattern={"^q_proj": 2, r".*\.1\..*_proj": 3, r"layers\.\d+\.[kq]_proj": 5},
        alpha_pattern={"^model.layers.0.q_proj": 1, "(k|o)_proj": 20, "1.q_proj": 7})),
    # In the order PEFT saves them in, which it trained with only if they came in it.
    "first pattern counts": ("chain", dict(r=4, rank_pattern={"^q_proj": 5, "model.layers.0.q_proj": 3, "q_proj": 2})),
    "regular expression for targets": ("chain", dict(r=2, target_modules=r"model\.layers\.(0|11)\.[qo]_proj")),
    "some layers": ("chain", dict(r=2, layers_to_transform=[0, 11])),
    "gaussian": ("chain", dict(r=2, init_lora_weights="gaussian")),
    "orthogonal": ("chain", dict(r=2, init_lora_weights="orthogonal")),
    "mica": ("chain", dict(r=2, init_lora_weights="mica")),
    "bf16": ("chain", dict(r=4, lora_alpha=8, use_rslora=True)),
    "f16": ("chain", dict(r=4, lora_alpha=8)),
    "gpt2": ("gpt2", dict(r=4, lora_alpha=6, fan_in_fan_out=True, task_type="CAUSAL_LM")),
    "gpt2, rsLoRA and patterns": ("gpt2", dict(r=4, lora_alpha=6, use_rslora=True, fan_in_fan_out=True,
                                               rank_pattern={"attn.c_proj": 2}, alpha_pattern={"c_proj": 3})),
    "llama": ("llama", dict(r=4, lora_alpha=8, task_type="CAUSAL_LM")),
    "bert": ("bert", dict(r=4, lora_alpha=8)),
    "DoRA": ("chain", dict(r=4, lora_alpha=8, use_dora=True)),
    "DoRA, rsLoRA and patterns": ("chain", dict(
        r=4, lora_alpha=8, use_dora=True, use_rslora=True, rank_pattern={"model.layers.1.q_proj": 2, "k_proj": 3},
        alpha_pattern={"model.layers.11.k_proj": 5})),
    "DoRA, gpt2": ("gpt2", dict(r=4, lora_alpha=6, use_dora=True, fan_in_fan_out=True)),
    "convolutions and an embedding": ("pictures", dict(r=2, lora_alpha=3)),
    "convolutions and an embedding, rsLoRA and patterns": ("pictures", dict(
        r=2, lora_alpha=3, use_rslora=True, rank_pattern={"conv": 4, "words": 3}, alpha_pattern={"net.wide": 5})),
    "DoRA, convolutions and an embedding": ("pictures", dict(r=3, lora_alpha=4, use_dora=True)),
    "AdaLoRA": ("chain", dict(init_r=5, lora_alpha=7)),
    "AdaLoRA, pruned": ("chain", dict(init_r=5, lora_alpha=7, rank_pattern={
        "model.layers.0.q_proj.lora_E.default": [True, False, True, True, False],
        "model.layers.1.k_proj.lora_E.default": [False, False, False, False, True]})),
    "AdaLoRA, gpt2": ("gpt2", dict(init_r=4, lora_alpha=6, fan_in_fan_out=True)),
    "AdaLoRA, convolutions": ("pictures", dict(init_r=3, lora_alpha=4, target_modules=["conv", "wide", "head"])),
}


def peft_model(kind_name, arguments):
    kind, ada = KINDS[kind_name], "init_r" in arguments
    arguments = {"target_modules": TARGETS[kind_name], **({"total_step": 10} if ada else {}), **arguments}
    return get_peft_model(kind.build(), (AdaLoraConfig if ada else LoraConfig)(**arguments))


def randomise(model, dtype=torch.float32):
    """A and B that depend on nothing but their names and shapes, so that files are the same everywhere."""
    rng = np.random.default_rng(8)
    for name, p in sorted(model.named_parameters()):
        if "lora_" in name:
            values = rng.standard_normal(tuple(p.shape)).astype(np.float32) * 0.3
            p.data = torch.from_numpy(values + np.float32("magnitude" in name)).to(dtype)


def train(model, kind):
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(4):
        out = model(kind.inputs)
        (out if isinstance(out, torch.Tensor) else out.logits).sub(1).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()


def changed_base(kind, model):
    """What PEFT made of the base's weights, as a file has them."""
    state = kind.base(kind.build())
    for name, layer in lora_layers(model).items():
        state[name[len(kind.prefix):] + ".weight"] = layer.get_base_layer().weight.detach().clone()
    return state


def converted(kind_name, folder, arguments, prepare=lambda model, config: None):
    """PEFT's way with inits that change the base: saved as it is ("raw"), converted, and the base as changed."""
    kind = KINDS[kind_name]
    config = LoraConfig(target_modules=TARGETS[kind_name], fan_in_fan_out=kind.fan_in_fan_out, **arguments)
    base = kind.build()
    prepare(base, config)
    model = get_peft_model(base, config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(folder / "start")
    model.peft_config["default"].init_lora_weights = arguments["init_lora_weights"]
    train(model, kind)
    model.save_pretrained(folder / "raw")
    model.save_pretrained(folder / "converted", path_initial_model_for_weight_conversion=str(folder / "start"))
    save_file(changed_base(kind, model), folder / "changed_base.safetensors")
    return model


def estimate(kind):
    """A step for preprocess_loraga. Random directions of all outputs: gradients of full rank."""
    def prepare(model, config):
        def step():
            rng = np.random.default_rng(9)
            for _ in range(3):
                inputs = torch.cat([kind.inputs] * 8)
                if inputs.is_floating_point():
                    inputs = torch.from_numpy(rng.standard_normal(tuple(inputs.shape)).astype(np.float32))
                out = model(inputs)
                out = out if isinstance(out, torch.Tensor) else out.logits
                (out * torch.from_numpy(rng.standard_normal(tuple(out.shape)).astype(np.float32))).mean().backward()
        preprocess_loraga(model, config, step)
    return prepare


CONVERTED = {
    "pissa": ("chain", dict(r=4, lora_alpha=8, init_lora_weights="pissa")),
    "pissa, rsLoRA": ("chain", dict(r=4, lora_alpha=8, use_rslora=True, init_lora_weights="pissa_niter_16")),
    "pissa, patterns": ("chain", dict(r=4, lora_alpha=8, rank_pattern={"k_proj": 2}, alpha_pattern={"1.q_proj": 3},
                                      init_lora_weights="pissa")),
    "pissa, gpt2": ("gpt2", dict(r=4, lora_alpha=8, init_lora_weights="pissa")),
    "olora": ("chain", dict(r=4, lora_alpha=8, init_lora_weights="olora")),
    "olora in capitals": ("chain", dict(r=4, lora_alpha=8, init_lora_weights="OLoRA")),
    "lora_ga": ("chain", dict(r=3, lora_alpha=8, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())),
    "lora_ga, rsLoRA": ("chain", dict(r=3, lora_alpha=8, use_rslora=True, init_lora_weights="lora_ga",
                                      lora_ga_config=LoraGAConfig(direction="ArBr"))),
    "lora_ga, gpt2": ("gpt2", dict(r=4, lora_alpha=8, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())),
}

# name: (arguments, part of our complaint)
REFUSED = {
    "a whole layer saved": (dict(modules_to_save=["head"]), "adapter"),  # by who takes the factors alone
    "all biases": (dict(bias="all"), "adapter"),
    "biases of adapted layers": (dict(bias="lora_only"), "adapter"),
    "a bias of B": (dict(lora_bias=True), "lora_bias"),
    "KaSA": (dict(kasa_config=KasaConfig()), "kasa_config"),
    "AdaLoRA without a scale": (dict(init_r=2, lora_alpha=0), "lora_alpha"),
}


class Reader:
    """Reads adapters with our program and holds them against PEFT."""

    def __init__(self, report, exchange):
        self.report, self.exchange = report, exchange

    def job(self, kind, folder, adapter, base, data):
        return {"adapter": adapter, "base": write(folder / "base.safetensors", base), "module_prefix": kind.prefix, "convolutions": convolutions(kind),
                "data": write(folder / "data.safetensors", data), "fan_in_fan_out": kind.fan_in_fan_out,
                "out": folder / "out.safetensors"}

    def compare(self, what, kind, folder, adapter, base, data, theirs, more=None, dora=False):
        job = {**self.job(kind, folder, adapter, base, data), **(more or {})}
        self.exchange.must("load", job)
        ours = load_numpy(job["out"])
        # The library has no DoRA of an embedding to compute with; such a record is merged only.
        theirs = {k: y for k, y in theirs.items() if k in ours or not (dora and k == "y.words")}
        problems = [] if sorted(ours) == sorted(theirs) else [f"layers {sorted(ours)}"]
        self.report.near(what, [ours.get(k) for k in theirs], list(theirs.values()), LIMIT, problems)


def check(report, exchange, work):
    reader = Reader(report, exchange)
    for name, (kind_name, arguments) in PLAIN.items():
        check_plain(reader, name, kind_name, arguments, work)
    for name, (kind_name, arguments) in CONVERTED.items():
        check_converted(reader, name, kind_name, arguments, work)
    for name, (arguments, complaint) in REFUSED.items():
        check_refused(reader, name, arguments, complaint, work)
    check_types(reader, work)
    check_combined(reader, work)
    check_emptied(reader, work)
    check_whole_embedding(reader, work)


def check_plain(reader, name, kind_name, arguments, work):
    kind, folder = KINDS[kind_name], work / name.replace(" ", "-")
    model = peft_model(kind_name, arguments)
    randomise(model, {"bf16": torch.bfloat16, "f16": torch.float16}.get(name, torch.float32))
    model.save_pretrained(folder)
    base, data = kind.base(kind.build()), layer_data(kind)
    opened, problems = open_adapter(kind, folder, base)
    theirs = layer_outputs(opened, data)
    rank_stable, dora = arguments.get("use_rslora", False), arguments.get("use_dora", False)
    options = {"rank_stable": rank_stable, "fan_in_fan_out": kind.fan_in_fan_out, "module_prefix": kind.prefix}
    exports = [{"folder": folder / "again", **options},
               {"folder": folder / "portable", "profile": "portable", **options}]
    if dora or name == "AdaLoRA, convolutions":  # no plain LoRA; AdaLoRA's files do not tell what is a convolution
        refused = reader.exchange.run("load", {**reader.job(kind, folder, folder, base, data), "exports": exports[1:]})[1]
        reader.report.true(f"{name}: portable is refused", "profile is portable" in refused or "adapter is" in refused,
                           refused)
        exports = exports[:1]
    more = {"exports": exports, "merged": folder / "merged.safetensors"}
    reader.compare(f"{name}", kind, folder, folder, base, data, theirs, more, dora)
    reader.report.true(f"{name}: our copy has PEFT's bytes", *same_bytes(folder, folder / "again"))
    merged, whole = kind.run(kind.build(load_file(folder / "merged.safetensors"))), kind.run(opened)
    reader.report.near(f"{name}: whole model, weights merged here", merged, whole, LIMIT, problems)
    theirs_merged, ours_merged = merged_weights(kind, folder, base), load_numpy(folder / "merged.safetensors")
    reader.report.near(f"{name}: weights merged here, as PEFT merges them",
                       [ours_merged[n[len(kind.prefix):] + ".weight"] for n in kind.modules],
                       [theirs_merged[n] for n in kind.modules], LIMIT)
    for export in [e["folder"].name for e in exports]:
        opened, problems = open_adapter(kind, folder / export, base)
        y = layer_outputs(opened, data)
        reader.report.near(f"{name}: {export}, back in PEFT", [y.get(k) for k in sorted(theirs)],
                           [theirs[k] for k in sorted(theirs)], LIMIT, problems)


def same_bytes(folder, other):
    file = "adapter_model.safetensors"
    return (folder / file).read_bytes() == (other / file).read_bytes(), file


def check_converted(reader, name, kind_name, arguments, work):
    kind, folder = KINDS[kind_name], work / name.replace(" ", "-")
    prepare = estimate(kind) if "lora_ga" in name else lambda model, config: None
    model = converted(kind_name, folder, arguments, prepare)
    base, data = kind.base(kind.build()), layer_data(kind)
    theirs = layer_outputs(model, data)
    reader.compare(f"{name}, converted", kind, folder, folder / "converted", base, data, theirs)
    reader.compare(f"{name}, unconverted on the changed base", kind, folder, folder / "raw",
                   load_file(folder / "changed_base.safetensors"), data, theirs, {"as": "anchored"})
    complaints = []
    for base_named in ["", "original"]:
        _, complaint = reader.exchange.run("load", {**reader.job(kind, folder, folder / "raw", base, data),
                                                    "as": base_named})
        complaints += [] if "peft_base::anchored" in complaint else [complaint or "not refused"]
    reader.report.true(f"{name}, unconverted: refused unless anchored is named", not complaints, str(complaints))


def check_refused(reader, name, arguments, complaint, work):
    kind, folder = KINDS["chain"], work / ("refused-" + name.replace(" ", "-"))
    model = peft_model("chain", arguments if "init_r" in arguments else {"r": 2, **arguments})
    model.save_pretrained(folder)
    _, said = reader.exchange.run("load", reader.job(kind, folder, folder, kind.base(kind.build()), layer_data(kind)))
    reader.report.true(f"{name}: refused, naming {complaint}", f": {complaint} is " in said, said or "not refused")


def check_types(reader, work):
    """A and B of different types: what is read is not rounded when it is written again."""
    kind, folder = KINDS["chain"], work / "types"
    model = peft_model("chain", dict(r=4))
    randomise(model)
    model.save_pretrained(folder)
    file = load_file(folder / "adapter_model.safetensors")
    write(folder / "adapter_model.safetensors", {n: t.bfloat16() if "lora_B" in n else t for n, t in file.items()})
    base, data = kind.base(kind.build()), layer_data(kind)
    theirs = layer_outputs(open_adapter(kind, folder, base)[0], data)
    more = {"exports": [{"folder": folder / "again"}]}
    reader.compare("A in F32, B in BF16", kind, folder, folder, base, data, theirs, more)
    again = layer_outputs(open_adapter(kind, folder / "again", base)[0], data)
    reader.report.near("A in F32, B in BF16: again, back in PEFT", [again[k] for k in theirs], list(theirs.values()),
                       LIMIT)


def check_emptied(reader, work):
    """A layer that AdaLoRA has pruned to rank 0, of which PEFT's file has tensors without elements."""
    kind, folder = KINDS["chain"], work / "emptied"
    kept = {f"model.layers.{i}.o_proj.lora_E.default": [False, i == "0", False] for i in ["0", "11"]}
    model = peft_model("chain", dict(init_r=3, lora_alpha=5, rank_pattern=kept))
    randomise(model)
    model.save_pretrained(folder)
    base = kind.base(kind.build())
    opened, problems = open_adapter(kind, folder, base)
    job = {**reader.job(kind, folder, folder, base, layer_data(kind)), "merged": folder / "merged.safetensors"}
    reader.exchange.must("load", job)
    merged = kind.run(kind.build(load_file(folder / "merged.safetensors")))
    reader.report.near("AdaLoRA, a layer pruned to nothing: whole model, weights merged here", merged,
                       kind.run(opened), LIMIT, problems)


def check_whole_embedding(reader, work):
    """PEFT adds the whole embedding to files of adapters for what transformers calls embed_tokens."""
    kind, folder = KINDS["llama"], work / "whole-embedding"
    peft_model("llama", dict(r=2, target_modules=["embed_tokens"])).save_pretrained(folder)
    said = reader.exchange.run("load", reader.job(kind, folder, folder, kind.base(kind.build()), layer_data(kind)))[1]
    reader.report.true("an embedding saved whole: refused by who takes the factors alone",
                       "model.embed_tokens.weight whole" in said, said)


def check_combined(reader, work):
    """Two adapters with weights as one, against PEFT's add_weighted_adapter, type "cat"."""
    kind, folder = KINDS["chain"], work / "combined"
    base, data = kind.base(kind.build()), layer_data(kind)
    weights, names = [0.75, 1.5], ["one", "two"]
    for name, arguments in zip(names, [dict(r=4, lora_alpha=8), dict(r=3, lora_alpha=5, use_rslora=True)]):
        model = peft_model("chain", arguments)
        randomise(model)
        model.save_pretrained(folder / name)
    model, _ = open_adapter(kind, folder / "one", base)
    model.load_adapter(folder / "two", adapter_name="two")
    model.add_weighted_adapter(["default", "two"], weights, "sum", combination_type="cat")
    model.set_adapter("sum")
    theirs = layer_outputs(model, data)
    job = {"base": write(folder / "base.safetensors", base), "exports": [{"folder": folder / "sum"}],
           "adapters": [{"folder": folder / n, "weight": w} for n, w in zip(names, weights)]}
    reader.exchange.must("combine", job)
    model, problems = open_adapter(kind, folder / "sum", base)
    ours = layer_outputs(model, data)
    reader.report.near("two adapters as one, as PEFT combines them", [ours[k] for k in theirs], list(theirs.values()),
                       LIMIT, problems)
