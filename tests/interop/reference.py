"""The small files of reference/, by which the unit tests know PEFT without having it.

    vectors, names   safetensors_vectors.json (light.py), names.json
    minilm/          by minilm.py
    peft/            adapters that PEFT wrote, and the layers' outputs as PEFT computes them, or where there are
                     convolutions the weights it merges them into; cases.json lists them
    ours/            adapters that we wrote, from records.safetensors by exports.json; PEFT loads every one of them
    parity/          gradients that PEFT estimated, and the A and B it made of them

`make` makes them anew; `check` holds the committed ones against the packages, and against those made anew as far as
they do not depend on the machine: what went through an SVD or a training does.
"""
import datetime
import json
import shutil
from importlib.metadata import version

import numpy as np
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file

import from_peft
import names
import parity
from models import KINDS, layer_data, layer_outputs, merged_weights, open_adapter, write
from to_peft import LIMIT, vllm_objections

PACKAGES = ["safetensors", "peft", "torch", "transformers", "numpy"]
PLAIN = ["lora", "rsLoRA, patterns by name", "rsLoRA, patterns by expression", "first pattern counts", "bf16",
         "gpt2, rsLoRA and patterns", "DoRA, rsLoRA and patterns", "DoRA, gpt2", "AdaLoRA, pruned",
         "convolutions and an embedding", "DoRA, convolutions and an embedding"]
CONVERTED = ["pissa", "olora in capitals", "lora_ga, rsLoRA", "lora_ga, gpt2"]
REFUSED = ["a whole layer saved", "all biases", "a bias of B", "KaSA"]


def few_inputs(kind):
    return {k: t[:4].contiguous() for k, t in layer_data(kind).items() if k.startswith("x.")}


def layer_weights(kind, base):
    keys = [n[len(kind.prefix):] + ".weight" for n in kind.modules]
    return {k: base[k] for k in keys}


def file_name(name):
    return name.replace(",", "").replace(" ", "-")


def keep(folder, to):
    """The two files of an adapter; its configuration without the order of a Python set."""
    to.mkdir(parents=True)
    shutil.copy(folder / "adapter_model.safetensors", to)
    config = json.loads((folder / "adapter_config.json").read_text())
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            config[key] = sorted(value)
    (to / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))


def results_of(kind_name, model, folder, base, data):
    if kind_name != "pictures":
        return layer_outputs(model, data)
    return {"w." + n: w for n, w in merged_weights(KINDS[kind_name], folder, base).items()}


def make_peft(to, work):
    cases = []

    def case(name, kind_name, folder, base, outputs, **more):
        kind = KINDS[kind_name]
        keep(folder, to / name)
        if outputs:
            write(to / name / "expected.safetensors", {k: torch.from_numpy(v) for k, v in outputs.items()})
        cases.append({"name": name, "base": base, "data": f"{kind_name}-data.safetensors", **more,
                      "module_prefix": kind.prefix, "fan_in_fan_out": kind.fan_in_fan_out, "kind": kind_name})

    to.mkdir(parents=True)
    bases, data = {}, {}
    for k in ["chain", "gpt2", "pictures"]:
        bases[k], data[k] = KINDS[k].base(KINDS[k].build()), few_inputs(KINDS[k])
        write(to / f"{k}-base.safetensors", layer_weights(KINDS[k], bases[k]))
        write(to / f"{k}-data.safetensors", data[k])
    for name in PLAIN:
        k, arguments = from_peft.PLAIN[name]
        model = from_peft.peft_model(k, arguments)
        from_peft.randomise(model, torch.bfloat16 if name == "bf16" else torch.float32)
        model.save_pretrained(work / name)
        opened, problems = open_adapter(KINDS[k], work / name, bases[k])
        assert not problems, problems
        outputs = results_of(k, opened, work / name, bases[k], data[k])
        case(file_name(name), k, work / name, f"{k}-base.safetensors", outputs, same_bytes=True)
    for name in CONVERTED:
        k, arguments = from_peft.CONVERTED[name]
        prepare = from_peft.estimate(KINDS[k]) if "lora_ga" in name else lambda model, config: None
        model = from_peft.converted(k, work / name, arguments, prepare)
        outputs, changed = layer_outputs(model, data[k]), f"{file_name(name)}-base.safetensors"
        write(to / changed, layer_weights(KINDS[k], load_file(work / name / "changed_base.safetensors")))
        if name in ["pissa", "lora_ga, rsLoRA"]:
            case(file_name(name) + "-converted", k, work / name / "converted", f"{k}-base.safetensors", outputs)
        case(file_name(name) + "-raw", k, work / name / "raw", changed, outputs, anchored=True)
    for name in REFUSED:
        arguments, complaint = from_peft.REFUSED[name]
        model = from_peft.peft_model("chain", {"r": 2, **arguments})
        from_peft.randomise(model)
        folder = work / file_name(name)
        model.save_pretrained(folder)
        case("refused-" + folder.name, "chain", folder, "chain-base.safetensors", {}, refused=complaint)
    (to / "cases.json").write_text(json.dumps(cases, indent=1))


EXPORTS = {
    "original-classic": {"base": "original"},
    "original-rslora": {"base": "original", "rank_stable": True},
    "anchored-rslora": {"base": "anchored", "rank_stable": True, "base_model": "the-anchored-base"},
    "portable-original": {"base": "original", "profile": "portable"},
    "portable-anchored": {"base": "anchored", "profile": "portable", "base_model": "the-anchored-base"},
}


def make_ours(exchange, to, work):
    """LoRA-GA with ranks and scales of its own for each layer, trained."""
    from to_peft import modules_of
    to.mkdir(parents=True)
    kind = KINDS["chain"]
    job = {"base": write(work / "base.safetensors", kind.base(kind.build())), "method": "lora_ga",
           "anchor": "frozen_pair", "data": write(work / "data.safetensors", layer_data(kind)), "rank_stable": True,
           "modules": modules_of(kind, True), "out": work / "out.safetensors", "records": to / "records.safetensors"}
    exchange.must("train", job)
    (to / "exports.json").write_text(json.dumps([{"folder": n, **e} for n, e in EXPORTS.items()], indent=1))
    save_ours(exchange, to, to, work)


def save_ours(exchange, reference, to, work):
    """Saves the committed records once more."""
    exports = json.loads((reference / "exports.json").read_text())
    kind = KINDS["chain"]
    exchange.must("save", {"from": reference / "records.safetensors",
                           "base": write(work / "base.safetensors", kind.base(kind.build())),
                           "exports": [{**e, "folder": to / e["folder"]} for e in exports]})


def make_parity(to):
    to.mkdir(parents=True)
    kind, cases, factors = KINDS["chain"], [], {}
    modules = kind.modules[:4]
    base = parity.steep_weights(kind, kind.base(kind.build()))
    for direction in parity.DIRECTIONS:
        for scale in ["stable", "weight_svd"]:
            gradients, a, b, scales = parity.peft_factors(kind, "chain", base, parity.arguments(direction, scale, 4))
            name = f"{direction} {scale}"
            cases.append({"name": name, "direction": direction, "scale": scale, "rank": 4, "s": scales[modules[0]]})
            for n in modules:
                factors[f"{name}.A.{n}"], factors[f"{name}.B.{n}"] = torch.from_numpy(a[n]), torch.from_numpy(b[n])
    write(to / "base.safetensors", {n + ".weight": base[n + ".weight"] for n in modules})
    write(to / "gradients.safetensors", {n: gradients[n] for n in modules})
    write(to / "factors.safetensors", factors)
    limit = max(parity.sensitivity(gradients[n], 8) for n in modules)
    (to / "cases.json").write_text(json.dumps({"limit": float(f"{limit:.1e}"), "cases": cases}, indent=1))


def make(exchange, to, work):
    make_peft(to / "peft", work / "peft")
    make_ours(exchange, to / "ours", work)
    make_parity(to / "parity")
    (to / "names.json").write_text(names.table_text())
    facts = {"date": datetime.date.today().isoformat(), "packages": {p: version(p) for p in PACKAGES}}
    (to / "versions.json").write_text(json.dumps(facts, indent=2) + "\n")


def check(report, exchange, committed, fresh, work):
    report.same("reference: packages are those of versions.json", {p: version(p) for p in PACKAGES},
                json.loads((committed / "versions.json").read_text())["packages"])
    report.same("reference: names.json made anew is the same", (fresh / "names.json").read_text(),
                (committed / "names.json").read_text())
    check_peft(report, exchange, committed / "peft", fresh / "peft", work)
    check_ours(report, exchange, committed / "ours", work)
    elsewhere = ["safetensors_vectors.json", "minilm"]  # light.py and minilm.py make them
    same_list = [sorted(str(q) for q in (p.relative_to(f) for p in f.rglob("*")) if q.parts[0] not in elsewhere)
                 for f in [committed, fresh]]
    report.same("reference: the files made anew are the committed ones", *same_list)


def check_peft(report, exchange, committed, fresh, work):
    def differ(file):
        return (committed / file).read_bytes() != (fresh / file).read_bytes()

    changed = [f for k in KINDS for f in [f"{k}-base.safetensors", f"{k}-data.safetensors"]
               if (committed / f).exists() and differ(f)]
    for case in json.loads((committed / "cases.json").read_text()):
        name, kind = case["name"], KINDS[case["kind"]]
        if case.get("same_bytes"):
            files = [f"{name}/{f}" for f in ["adapter_config.json", "adapter_model.safetensors"]]
            changed += [f for f in files if differ(f)]
        if "refused" in case:
            continue
        expected, data = load_numpy(committed / name / "expected.safetensors"), load_file(committed / case["data"])
        weights = {**kind.base(kind.build()), **load_file(committed / case["base"])}
        if case.get("anchored"):  # PEFT would change the base once more
            shutil.copytree(committed / name, work / name)
            config = json.loads((work / name / "adapter_config.json").read_text())
            (work / name / "adapter_config.json").write_text(json.dumps({**config, "init_lora_weights": True}))
            opened, problems = open_adapter(kind, work / name, weights)
        else:
            opened, problems = open_adapter(kind, committed / name, weights)
        theirs = results_of(case["kind"], opened, committed / name, weights, data)
        report.near(f"reference: {name} in PEFT", [theirs[k] for k in expected], list(expected.values()), LIMIT,
                    problems)
    report.same("reference: what PEFT writes without an SVD is the same", changed, [])


def check_ours(report, exchange, committed, work):
    save_ours(exchange, committed, work / "ours", work)
    records, kind = load_numpy(committed / "records.safetensors"), KINDS["chain"]
    base, data = kind.base(kind.build()), few_inputs(kind)
    for name, export in EXPORTS.items():
        anchored = export["base"] == "anchored"
        expected, its_base = {}, dict(base)
        for n in kind.modules:
            a, b, a0, b0 = (records[f"{n}.{k}"].astype(np.float64) for k in ["a", "b", "start_a", "start_b"])
            w, s = base[n + ".weight"].numpy().astype(np.float64), records[n + ".scale"][0]
            expected["y." + n] = data["x." + n].numpy() @ (w + s * (b @ a - b0 @ a0)).T
            if anchored:
                its_base[n + ".weight"] = torch.from_numpy((w - s * b0 @ a0).astype(np.float32))
        problems = [f"{f} is written otherwise" for f in ["adapter_config.json", "adapter_model.safetensors"]
                    if (committed / name / f).read_bytes() != (work / "ours" / name / f).read_bytes()]
        opened, more = open_adapter(kind, committed / name, its_base)
        objections = vllm_objections(committed / name) if "portable" in name else []
        theirs = layer_outputs(opened, data)
        report.near(f"reference: our {name} in PEFT", [theirs[k] for k in expected], list(expected.values()), LIMIT,
                    problems + more + objections)
