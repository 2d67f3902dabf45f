"""The main job on both devices, for a caller who brings its program and data: losses must agree within the spread of seeds."""
import csv
import os

import jobs


def run(kit, program, data, steps, clock):
    """examples/vision built with CUDA, by `program`; a few steps of it on the CPU and on the GPU."""
    losses = {}
    for device in ("cuda", "cpu"):
        out = os.path.join(kit.work, "job-" + device)
        words = [program, "--device", device, "--data", data, "--cache", kit.work, "--out", out, "--steps", str(steps), "--panels", "a",
                 "--methods", "full", "lora", "pissa", "lora-ga-64"]
        outcome = jobs.run(words, os.path.join(kit.work, f"job-{device}.log"), clock.left(), kit.env)
        if outcome.timed_out or outcome.code != 0:
            return {"status": "timed out" if outcome.timed_out else "failed", "device": device, "said": outcome.ending()}
        losses[device] = final_losses(os.path.join(out, "curves.csv"))
    compared = {method: compare(losses["cpu"][method], losses["cuda"][method]) for method in losses["cpu"]}
    near = all(abs(c["difference_of_means"]) <= max(c["spread_of_seeds"], 0.02 * abs(c["cpu"][0])) for c in compared.values())
    return {"status": "passed" if near else "failed", "steps": steps, "final_losses": compared}


def final_losses(path):
    with open(path, newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    last, losses = max(int(r["step"]) for r in rows), {}
    for r in rows:
        if int(r["step"]) == last:
            losses.setdefault(r["method"], []).append(float(r["loss"]))
    return losses


def compare(cpu, cuda):
    return {"cpu": cpu, "cuda": cuda, "difference_of_means": sum(cuda) / len(cuda) - sum(cpu) / len(cpu),
            "spread_of_seeds": max(cpu) - min(cpu)}
