"""Files of mixtures of experts: what tens of thousands of tensors cost, against the Python package of safetensors."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

arguments = argparse.ArgumentParser()
arguments.add_argument("--opener", required=True, help="tests/interop/bytes.cpp, compiled")
arguments.add_argument("--adapter", required=True, help="loraga_adapter")
arguments.add_argument("--work", type=Path, required=True)
arguments.add_argument("--result", type=Path, required=True)
arguments.add_argument("--rounds", type=int, default=9)
options = arguments.parse_args()
opener, adapter = (str(Path(p).resolve()) for p in (options.opener, options.adapter))
shutil.rmtree(options.work, ignore_errors=True)
options.work.mkdir(parents=True)
result = options.result.resolve()
os.chdir(options.work)
rng = np.random.default_rng(1)


def numbers(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def open_times(count):
    names = [f"model.layers.{i // 800}.mlp.experts.{i % 800}.up_proj.weight" for i in range(count)]
    save_file({n: np.zeros((1, 1), np.float32) for n in names}, "many.safetensors")
    pairs = []
    for _ in range(options.rounds):  # in turn
        begin = time.perf_counter()
        with safetensors.safe_open("many.safetensors", "np") as file:
            sum(len(file.get_slice(name).get_shape()) for name in file.keys())
        theirs = time.perf_counter() - begin
        out = subprocess.run([opener, "open", "many.safetensors"], check=True, capture_output=True, text=True).stdout
        pairs.append((float(out.split()[0]), theirs))
    ours, theirs = (statistics.median(column) for column in zip(*pairs))
    row = {"tensors": count, "ours_s": round(ours, 4), "package_s": round(theirs, 4), "ours_to_package": round(ours / theirs, 2)}
    print(row, flush=True)
    return row


def write_models(count):
    """An adapter of 2*count tensors, one like it with exceptions, and two bases: one names its modules otherwise."""
    modules = [f"model.layers.{i // 384}.mlp.experts.{i % 384 // 3}.{['gate', 'up', 'down'][i % 3]}_proj" for i in range(count)]
    tensors = {f"base_model.model.{m}.lora_{k}.weight": numbers(2, 8) if k == "A" else numbers(8, 2) for m in modules for k in "AB"}
    for name, more in {"a": {}, "b": {"alpha_pattern": {m: 3 for m in modules[:2000]}}}.items():
        os.makedirs(name)
        save_file(tensors, f"{name}/adapter_model.safetensors", metadata={"format": "pt"})
        config = dict(peft_type="LORA", r=2, lora_alpha=4, target_modules=["gate_proj", "up_proj", "down_proj"], **more)
        Path(name, "adapter_config.json").write_text(json.dumps(config))
    for name, lead in {"base": "", "wrapped": "language_"}.items():
        os.makedirs(name)
        save_file({lead + m + ".weight": numbers(8, 8) for m in modules}, f"{name}/model.safetensors")
        Path(name, "config.json").write_text('{"model_type":"mixtral"}')


def job(what, *words):
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([adapter, *words], check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    row = {"job": what, "seconds": round(statistics.median(times), 2)}
    print(row, flush=True)
    return row


opened = [open_times(count) for count in (5000, 10000, 20000, 40000)]
modules = 18432
write_models(modules)
replace = ["--overwrite", "--out"]
jobs = [job("show", "show", "--adapter", "a"),
        job("show, 2000 exceptions", "show", "--adapter", "b"),
        job("merge", "merge", "--adapter", "a", "--base", "base", *replace, "m"),
        job("merge, other leading words", "merge", "--adapter", "a", "--base", "wrapped", *replace, "w"),
        job("convert", "convert", "--adapter", "b", *replace, "c"),
        job("combine two", "combine", "--adapter", "a", "b", *replace, "d")]
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown")
record = {"command": "bash bench/run.sh experts", "date": time.strftime("%Y-%m-%d"), "cpu": cpu, "cores": os.cpu_count(),
          "safetensors": safetensors.__version__, "rounds": options.rounds, "open_and_list": opened,
          "adapter_tensors": 2 * modules, "jobs": jobs}
result.write_text(json.dumps(record, indent=1) + "\n")
