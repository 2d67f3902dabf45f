"""Adapters trained here, loaded by PEFT on the base they are for."""
import json
import math

import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from models import KINDS, layer_data, layer_outputs, lora_layers, open_adapter, write

LIMIT = 1e-5  # of the outputs' root mean square: both sides sum in float32, in other orders


def vllm_objections(folder):
    """What vLLM's PEFTHelper and LoRA loader would refuse or silently ignore."""
    config = json.loads((folder / "adapter_config.json").read_text())
    objections = []
    if type(config["r"]) is not int or config["r"] < 1:
        objections.append("r")
    if config["lora_alpha"] != config["r"] or type(config["lora_alpha"]) is not int:
        objections.append("lora_alpha")
    for key, wanted in [("use_rslora", False), ("rank_pattern", {}), ("alpha_pattern", {}), ("bias", "none"),
                        ("use_dora", False), ("modules_to_save", None), ("init_lora_weights", True)]:
        if config[key] != wanted:
            objections.append(key)
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        if not name.startswith("base_model.model.") or not name.endswith((".lora_A.weight", ".lora_B.weight")):
            objections.append(name)
        elif tensor.shape[0 if "lora_A" in name else 1] != config["r"]:
            objections.append(name + " has another rank")
    return objections


def goes_on_training(model, kind):
    """One step of PyTorch's AdamW on the adapter changes it and lowers the loss."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4)

    def loss():
        out = model(kind.inputs)
        return ((out if isinstance(out, torch.Tensor) else out.logits) - 1).square().mean()

    before = loss()
    before.backward()
    finite = all(p.grad is not None and torch.isfinite(p.grad).all() for p in parameters)
    optimiser.step()
    return len(parameters) > 0 and finite and loss() < before


def modules_of(kind, mixed):
    ranks, alphas = ([2, 3, 4, 3], [4, 5.5, 8]) if mixed else ([4], [8])
    return [{"name": n, "rank": ranks[i % len(ranks)], "alpha": alphas[i % len(alphas)]}
            for i, n in enumerate(kind.modules)]


# kind, method, anchor, rsLoRA, mixed ranks and alphas, type; "own" is AdaLoRA's own start
CASES = [
    ("chain", "lora", "", False, False, "f32"), ("chain", "lora", "", True, False, "f32"),
    ("chain", "lora", "", True, True, "f32"), ("chain", "lora", "", False, True, "bf16"),
    ("chain", "lora_ga", "frozen_pair", True, False, "f32"), ("chain", "lora_ga", "frozen_pair", True, True, "f32"),
    ("chain", "lora_ga", "in_place", True, False, "f32"), ("chain", "lora_ga", "in_place", False, True, "f32"),
    ("chain", "lora_ga", "frozen_pair", True, True, "bf16"), ("chain", "pissa", "frozen_pair", False, True, "f32"),
    ("chain", "pissa", "in_place", True, False, "f32"), ("gpt2", "lora_ga", "frozen_pair", True, True, "f32"),
    ("gpt2", "pissa", "in_place", False, False, "f32"), ("llama", "lora_ga", "in_place", True, True, "f32"),
    ("bert", "lora_ga", "frozen_pair", True, False, "f32"), ("traps", "lora", "", False, True, "f32"),
    ("container", "lora", "", False, False, "f32"),
    ("chain", "dora lora", "", True, True, "f32"), ("chain", "dora lora_ga", "frozen_pair", True, True, "f32"),
    ("chain", "dora lora_ga", "in_place", False, False, "f32"),
    ("gpt2", "dora pissa", "frozen_pair", False, True, "f32"), ("chain", "adalora own", "", False, False, "f32"),
    ("chain", "adalora lora_ga", "frozen_pair", False, False, "f32"),
]


def exports_of(folder, adapter, method, rank_stable, more):
    """name -> options of save_peft"""
    all = {"as trained": {"rank_stable": rank_stable}, "classic": {"rank_stable": False},
           "rsLoRA": {"rank_stable": True}, "portable": {"profile": "portable"}}
    if adapter == "dora":
        del all["portable"]
    if adapter == "adalora":
        del all["classic"], all["rsLoRA"]
    if method not in ["lora", "own"]:
        for e in all.values():
            e["base"] = "original"
        for name in [n for n in ["as trained", "portable"] if n in all]:
            all[name + " on the anchored base"] = {**all[name], "base": "anchored", "base_model": str(folder / "base")}
    return {name: {**e, **more, "folder": str(folder / name)} for name, e in all.items()}


def check(report, exchange, work):
    check_methods(report, exchange, work)
    check_shards(report, exchange, work / "shards")
    check_task_types(report, exchange, work / "tasks")


def check_methods(report, exchange, work):
    for kind_name, method, anchor, rank_stable, mixed, type_ in CASES:
        kind = KINDS[kind_name]
        words = [kind_name, method, anchor, "rsLoRA" if rank_stable else "", "mixed" if mixed else "", type_]
        what = " ".join(w for w in words if w not in ["", "f32"])
        adapter, method = method.split() if " " in method else ("lora", method)
        folder = work / what.replace(" ", "-")
        folder.mkdir(parents=True)
        base, data = kind.base(kind.build()), layer_data(kind)
        more = {"fan_in_fan_out": kind.fan_in_fan_out, "module_prefix": kind.prefix}
        exports = exports_of(folder, adapter, method, rank_stable, more)
        job = {"base": write(folder / "base.safetensors", base), "data": write(folder / "data.safetensors", data),
               "method": method, "anchor": anchor, "rank_stable": rank_stable, "type": type_, **more,
               "modules": modules_of(kind, mixed), "out": folder / "out.safetensors", "exports": list(exports.values()),
               "merged": folder / "merged.safetensors", "records": folder / "records.safetensors"}
        job |= {"adapter": adapter, "learning_rate": 0.3 if method == "own" else 2e-2}
        if method not in ["lora", "own"]:
            job["anchored_base"] = folder / "anchored.safetensors"
        losses = json.loads(exchange.must("train", job))
        report.true(f"{what}: loss falls in 6 steps", losses["after"] < 0.98 * losses["before"], str(losses))
        ours = load_numpy(job["out"])
        for name, export in exports.items():
            anchored = export.get("base") == "anchored"
            its_base = load_file(job["anchored_base"]) if anchored else base
            model, problems = open_adapter(kind, folder / name, its_base, True)
            if model is None:
                report.true(f"{what}: {name}", False, problems[0])
                continue
            theirs = layer_outputs(model, data)
            if sorted(theirs) != sorted(ours):
                problems.append(f"adapters on {sorted(theirs)}")
            if name == "as trained" and adapter != "adalora":
                problems += wrong_scales(model, job["modules"], rank_stable, 1 if method == "lora" else 2)
            if name == "as trained":
                merged, whole = kind.run(kind.build(load_file(job["merged"]))), kind.run(model)
                no_effect = [] if abs(whole - kind.run(kind.build(base))).max() > 100 * LIMIT else ["no effect"]
                report.near(f"{what}: whole model, weights merged here", merged, whole, LIMIT, no_effect)
            if export.get("profile") == "portable":
                problems += [f"vLLM: {o}" for o in vllm_objections(folder / name)]
            if not goes_on_training(model, kind):
                problems.append("PyTorch cannot go on training")
            report.near(f"{what}: {name}", [ours[k] for k in ours], [theirs.get(k) for k in ours], LIMIT, problems)


def wrong_scales(model, modules, rank_stable, factor):
    """PEFT's own ranks and scales: outputs alone would not tell one from the other."""
    wrong, layers = [], lora_layers(model)
    for m in modules:
        s = m["alpha"] / (math.sqrt(m["rank"]) if rank_stable else m["rank"])
        rank, scale = layers[m["name"]].r["default"], layers[m["name"]].scaling["default"]
        if rank != factor * m["rank"] or abs(scale - s) > 1e-14 * s:
            wrong.append(f"{m} has rank {rank}, scale {scale}")
    return wrong


def check_shards(report, exchange, work):
    """A base in several files, as transformers saves it; the merged model is one that transformers loads."""
    kind = KINDS["llama"]
    kind.build().save_pretrained(work / "base", max_shard_size="8KB")
    job = {"base": work / "base", "data": write(work / "data.safetensors", layer_data(kind)), "method": "lora_ga",
           "anchor": "frozen_pair", "rank_stable": True, "modules": modules_of(kind, True),
           "out": work / "out.safetensors", "merged": work / "merged",
           "exports": [{"folder": work / "adapter", "base": "original"}]}
    exchange.must("train", job)
    (work / "merged" / "config.json").write_bytes((work / "base" / "config.json").read_bytes())
    merged, info = LlamaForCausalLM.from_pretrained(work / "merged", output_loading_info=True)
    model, problems = open_adapter(kind, work / "adapter", kind.base(kind.build()))
    problems += [f"{k}: {v}" for k, v in info.items() if v]
    shards = len(list((work / "merged").glob("*.safetensors")))
    ours, theirs = kind.run(merged.eval()), kind.run(model)
    report.near(f"llama in {shards} files, merged here, loaded by transformers", ours, theirs, LIMIT, problems)


def check_task_types(report, exchange, work):
    """PEFT itself adds a head to adapters of some task types and then cannot load files without that head."""
    work.mkdir()
    kind = KINDS["bert"]
    job = {"base": write(work / "base.safetensors", kind.base(kind.build())), "module_prefix": kind.prefix,
           "data": write(work / "data.safetensors", layer_data(kind)), "method": "lora", "rank_stable": False,
           "modules": modules_of(kind, False), "out": work / "out.safetensors"}
    for task in ["FEATURE_EXTRACTION", "SEQ_CLS", "TOKEN_CLS"]:
        export = {"folder": work / task, "task_type": task, "module_prefix": kind.prefix}
        _, complaint = exchange.run("train", {**job, "exports": [export]})
        problems = [] if complaint else open_adapter(kind, work / task, kind.base(kind.build()))[1]
        report.true(f"task type {task}: loads in PEFT, or is not written", not problems, str(problems))
