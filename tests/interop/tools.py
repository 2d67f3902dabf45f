"""docs/tools.md from top to bottom: its Python and its commands, on a small model; and every start of loraga_init, loaded
by PEFT on the base it is for, against W*x + s*B*A*x computed from the written files.
"""
import contextlib
import io
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from models import lora_layers
from to_peft import LIMIT
from whole_models import IDS, gpt2, llama, output

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "tools.md"
# method, more words, what it reads, what the model is at first
STARTS = [("lora", [], "", "unchanged"), ("gaussian", [], "", "unchanged"), ("orthogonal", [], "", "unchanged"),
          ("eva", [], "inputs", "unchanged"), ("gaussian-pair", [], "", "anchored"),
          ("gaussian-pair", ["--scale", "stable"], "", "anchored"), ("pissa", [], "", "anchored"),
          ("milora", [], "", "anchored"), ("olora", [], "", "anchored"), ("corda", [], "inputs", "anchored"),
          ("corda", ["--part", "kpm"], "inputs", "anchored"), ("lora-ga", [], "gradients", "anchored"),
          ("lora-ga", ["--scale", "gd", "--directions", "ArBr"], "gradients", "anchored"),
          ("lora-one", [], "gradients", "ahead"), ("gora", [], "gradients", "ahead"), ("lora-sb", [], "gradients", "ahead"),
          ("lora-ga", ["--ranks", "spectra"], "gradients", "anchored"),
          ("pissa", ["--ranks", "spectra", "--parameters", 1500], "", "anchored"),
          ("lora-one", ["--ranks", "importance", "--no-rslora"], "gradients", "ahead"),
          ("corda", ["--ranks", "explained", "--rslora"], "inputs", "anchored"),
          ("eva", ["--ranks", "same"], "inputs", "unchanged")]


def blocks(text):
    """(language, code) of a document's blocks."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)


def run_document(report, programs, work):
    """The document's code in its order, in one folder and one Python namespace."""
    torch.manual_seed(2)
    llama(False).save_pretrained(work / "model")
    names = {"batches": [IDS, IDS.flip(0) + 3]}
    failure = ""
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    with contextlib.chdir(work):
        for language, code in blocks(DOCUMENT.read_text()):
            title = " ".join(code.split())[:60]
            if language == "python":
                try:
                    exec(code, names)
                    failure = ""
                except Exception as error:
                    failure = repr(error)
            if language == "sh":
                done = subprocess.run(["bash", "-e", "-c", code], capture_output=True, text=True, env=environment)
                failure = done.stderr[-300:] if done.returncode != 0 else ""
            if language in ["python", "sh"] and not report.true(f"tools.md: {title}", not failure, failure):
                return
    trained = names["started"]
    merged = AutoModelForCausalLM.from_pretrained(work / "merged")
    report.near("tools.md: merged, the trained model", output(merged), output(trained), LIMIT)
    same, original = (AutoModelForCausalLM.from_pretrained(work / f) for f in ["unmerged", "model"])
    report.near("tools.md: unmerged, the model", output(same), output(original), LIMIT)


def written_change(folder, module):
    """s*B*A from the files alone, s as PEFT documents it: alpha/r or alpha/sqrt(r), with patterns."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    a, b = (tensors[f"base_model.model.{module}.lora_{x}.weight"].astype(np.float64) for x in "AB")

    def value(pattern, other):
        fits = [v for k, v in config[pattern].items() if re.match(rf"(.*\.)?({k})$", module)]
        return fits[0] if fits else config[other]

    r, alpha = value("rank_pattern", "r"), value("alpha_pattern", "lora_alpha")
    assert r == a.shape[0], (module, r, a.shape)
    return alpha / (r ** 0.5 if config["use_rslora"] else r) * b @ a


def check_start(report, programs, work, number, start, name, make):
    """One start in PEFT: each layer's output is W*x plus the written change's, and the model's is as the method says."""
    method, words, reads, state = start
    what = f"{name}: {' '.join(map(str, [method, *words]))}"
    to, changed = work / f"{name}-{number}", work / f"{name}-{number}-changed"
    command = [programs / "loraga_init", "--base", work / name, "--method", method, "--family", name, "--out", to,
               "--task-type", "CAUSAL_LM", "--rank", 4, *words]
    command += [f"--{reads}", work / f"{name}.safetensors"] if reads else []
    if state == "anchored":
        command += ["--relative-to", "anchored", "--anchored-base", changed]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if not report.true(f"{what}: written", done.returncode == 0, done.stderr[-300:]):
        return
    base = AutoModelForCausalLM.from_pretrained(changed if state == "anchored" else work / name)
    model = PeftModel.from_pretrained(base, to, is_trainable=True)
    model.eval()
    ours, theirs = [], []
    for module, layer in lora_layers(model).items():
        module = module.removeprefix("base_model.model.")
        w = layer.base_layer.weight.detach().double().numpy()
        if name == "gpt2":
            w = w.T
        x = torch.randn(5, w.shape[1], generator=torch.Generator().manual_seed(4))
        bias = 0 if layer.base_layer.bias is None else layer.base_layer.bias.detach().double().numpy()
        ours.append(x.double().numpy() @ (w + written_change(to, module)).T + bias)
        with torch.no_grad():
            theirs.append(layer(x).numpy())
    # where the start is large, it and what was taken from the base cancel
    report.near(f"{what}: layers in PEFT", theirs, ours, 5 * LIMIT)
    now, before = output(model), output(make)
    if state != "ahead":
        report.near(f"{what}: the model is unchanged", now, before, 10 * LIMIT)
    else:
        moved = np.abs(now - before).max()
        report.true(f"{what}: the model is ahead", moved > 1e-6 and np.isfinite(moved), f"moved by {moved}")


def capture(model, path):
    """As docs/tools.md has it, for Conv1D as well."""
    code = next(code for language, code in blocks(DOCUMENT.read_text()) if language == "python")
    code = code.replace('AutoModelForCausalLM.from_pretrained("model")', "model")
    code = code.replace("torch.nn.Linear", "kinds").replace('"captured.safetensors"', "path")
    code = code.replace("model = model\n", "")
    from transformers.pytorch_utils import Conv1D
    exec(code, {"model": model, "path": path, "batches": [IDS, IDS.flip(0) + 3], "kinds": (torch.nn.Linear, Conv1D)})


def check(report, programs, work):
    (work / "document").mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        run_document(report, programs, work / "document")
    for name, make in [("llama", lambda: llama(False)), ("gpt2", gpt2)]:
        torch.manual_seed(1)
        make().save_pretrained(work / name)
        model = AutoModelForCausalLM.from_pretrained(work / name)
        capture(AutoModelForCausalLM.from_pretrained(work / name), work / f"{name}.safetensors")
        for number, start in enumerate(STARTS if name == "llama" else STARTS[5:13] + STARTS[16:18]):
            check_start(report, programs, work, number, start, name, model)
