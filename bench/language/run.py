"""bench/results/llm.json: a quantised language model fine-tuned from several starts, what the estimate takes, and PEFT's side.

Stages leave their parts in --work and are not run again: `shapes` (the estimate's memory), `speed` (steps in turn with PEFT),
`job` (memory and times of a whole job), `stop` (early stop), `spectra`, `training` (the runs), `served` (llama.cpp).
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "evidence"))
import files
import speed
import training

options = None
THREADS = os.cpu_count()


def output(*command):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def shapes():
    rows = [json.loads(output(options.shapes, name, 8)) for name in ("smollm2", "llama-2-7b")]
    for r in rows:
        r["formula_share"] = round(r["formula_bytes"] / r["dense_bytes"], 4)
        r["allocated_share"] = round(r["allocated_bytes"] / r["dense_bytes"], 4)
        r["allocated_over_formula"] = round(r["allocated_bytes"] / r["formula_bytes"], 3)
    return rows


def steps_in_turn():
    return speed.measure(options.step_server, options.python, str(HERE / "peer.py"), options.model, options.data,
                         options.work / "speed", THREADS)


def job(out, *more):
    """One run of the example in a folder of its own: what it said, and the memory of the whole process."""
    subprocess.run(["rm", "-rf", str(out)], check=True)
    command = [options.program, "--model", options.model, "--data", options.data, "--out", str(out), "--threads", str(THREADS), *map(str, more)]
    began = time.time()
    with open(f"{out}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {status}; see {out}.log")
    record = json.loads((out / "results.jsonl").read_text().split("\n")[0])
    estimates = list(out.glob("adapters/*/estimate.json"))
    return {"options": [str(m) for m in more], "seconds": round(time.time() - began, 1), "peak_bytes": usage.ru_maxrss * 1024,
            "loss": round(record["loss"], 4), "estimate": json.loads(estimates[0].read_text()) if estimates else None}


def jobs():
    some = ["--steps", 8, "--evaluate-every", 8, "--held-out", 40, "--answers", 1]
    return {"whole": job(options.work / "job", "--methods", "lora-ga"),
            "small_pieces": job(options.work / "job128", "--methods", "lora-ga", "--tokens", 128, *some),
            "one_shot": job(options.work / "job-one-shot", "--methods", "lora-ga", "--estimate", "one-shot", "--tokens", 1024, *some)}


def stop():
    common = ["--methods", "lora-ga", "--sample-batches", 16, "--steps", 16, "--evaluate-every", 16, "--held-out", 40, "--answers", 1]
    return {"tolerance": options.settle, "all": job(options.work / "stop-all", *common),
            "settled": job(options.work / "stop-settled", *common, "--settle", options.settle)}


def spectra():
    layers = [json.loads(line) for line in output(options.spectra, options.model, options.data, 8, 0, 15, 29).split("\n") if line]
    for l in layers:
        l["spectrum"] = [float(f"{x:.4g}") for x in l["spectrum"]]
    files.replace(options.results / "spectra_llm.json", files.json_lines({
        "what": "singular values of the mean gradient over 64 definitions before training, SmolLM2-135M-Instruct in Q4_1",
        "layers": "blocks 0, 15 and 29", "command": "bash bench/run.sh llm", "sets": {"foldoc": layers}}))
    kept = options.work / "presets.json"
    subprocess.run([options.system_python, str(HERE.parent / "evidence" / "presets.py"), "--server", options.server, "--spectra",
                    str(options.results / "spectra_llm.json"), "--work", str(options.work / "matrices"), "--threads",
                    str(THREADS), "--result", str(kept)], check=True)

    def energy_of_16(l):
        s = [x * x for x in l["spectrum"]]
        return round(sum(s[:16]) / sum(s), 3)

    presets = json.loads(kept.read_text())
    return {"energy_of_16": {l["name"]: energy_of_16(l) for l in layers}, "presets": presets["rows"], "misses": presets["misses"]}


def train():
    return training.measure(training.Runs(options.program, options.model, options.data, options.work / "training", THREADS))


def served():
    """The best runs' adapters of the first seed, in llama.cpp."""
    best = json.loads((options.work / "training.json").read_text())["best"]["rows"]
    runs = training.Runs(options.program, options.model, options.data, options.work / "training", THREADS)
    known, rows = runs.known(), []
    for r in best:
        name = runs.name(r["method"], r["rate"], training.SEEDS[0])
        said = output(options.llama_python, HERE.parent.parent / "examples/language/serve.py", "--model", options.model, "--run",
                      known[name]["folder"], "--adapter", name)
        there, here, apart = re.search(r"held-out loss ([\d.]+) in llama.cpp, ([\d.]+) here: ([-+\d.]+) %", said).groups()
        rows.append({"run": name, "llama_cpp": float(there), "here": float(here), "percent": float(apart),
                     "says": said.strip().split("\n")[-1].strip()})
    return rows


STAGES = {"shapes": shapes, "speed": steps_in_turn, "job": jobs, "stop": stop, "spectra": spectra, "training": train, "served": served}


def report():
    parts = {}
    for name in STAGES:
        path = options.work / f"{name}.json"
        if not path.exists():
            print(f"no {name} yet: {options.results / 'llm.json'} is not written")
            return
        parts[name] = json.loads(path.read_text())
    record = {"setup": {"command": "bash bench/run.sh llm", "date": time.strftime("%Y-%m-%d"), "commit": files.commit(),
                        "machine": files.machine("cpu"), "model": "SmolLM2-135M-Instruct.Q4_1.gguf", "settings": training.SETTINGS,
                        "seeds": training.SEEDS, "packages": packages()}, **parts}
    files.replace(options.results / "llm.json", files.json_lines(record))
    write_page(record, HERE.parent.parent / "docs/quantised.md")
    subprocess.run([options.system_python, str(HERE / "picture.py"), str(options.results / "llm.json"), str(options.results / "llm.png")], check=True)


def tables(record):
    """The record's tables, for docs/quantised.md."""
    lines = []
    for key, title in (("best", "each at its own best rate"), ("common", "all at one rate")):
        part = record["training"][key]
        lines += ["", f"| {title} | rate | held-out loss | accuracy | steps to LoRA's loss ({part['lora_loss']:.3f}) |", "|---|---|---|---|---|"]
        for r in part["rows"]:
            loss = "diverged" if r["loss"] is None else f"{r['loss']:.3f} ± {r['sd'] or 0:.3f}"
            reached = ", ".join("-" if s is None else str(s) for s in r["steps_to_lora"])
            lines.append(f"| {r['method']} | {r['rate']:g} | {loss} | {r['accuracy'] or 0:.3f} | {reached} |")
    lines += ["", "| training | tokens per second | seconds a step | peak memory, MB |", "|---|---|---|---|"]
    for s in record["speed"]["sides"]:
        lines.append(f"| {s['side']} | {s['tokens_per_second']:.0f} | {s['step_seconds']:.2f} | {s['peak_bytes'] / 1e6:.0f} |")
    lines += ["", "| estimate, r = 8 | dense gradients, MB | by the formula | allocated |", "|---|---|---|---|"]
    for s in record["shapes"]:
        lines.append(f"| {s['name']}, {s['layers']} layers | {s['dense_bytes'] / 1e6:,.0f} | {s['formula_bytes'] / 1e6:.1f} ({100 * s['formula_share']:.2f} %) | "
                     f"{s['allocated_bytes'] / 1e6:.1f} ({100 * s['allocated_share']:.2f} %) |")
    lines += ["", "| adapter | held-out loss here | in llama.cpp |", "|---|---|---|"]
    lines += [f"| {s['run']} | {s['here']:.4f} | {s['llama_cpp']:.4f} ({s['percent']:+.2f} %) |" for s in record["served"]]
    return "\n".join(lines) + "\n\n"


def write_page(record, page):
    begin, end = "<!-- from llm.json -->\n", "<!-- end of llm.json -->\n"
    before, rest = page.read_text().split(begin)
    files.replace(page, before + begin + tables(record) + end + rest.split(end)[1])


def packages():
    wanted = ("torch", "transformers", "peft", "gguf")
    listed = output(options.python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check").split()
    return [p for p in listed if p.split("==")[0] in wanted]


def main():
    global options
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("program", "step-server", "shapes", "spectra", "server", "python", "llama-python", "model", "data"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--system-python", default="/usr/bin/python3")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--settle", type=float, default=0.1)
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=list(STAGES))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.stages:
        path = options.work / f"{name}.json"
        if path.exists():
            continue
        print(f"== {name}", flush=True)
        files.replace(path, json.dumps(STAGES[name](), indent=1) + "\n")
    report()


if __name__ == "__main__":
    main()
