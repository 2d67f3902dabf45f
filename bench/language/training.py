"""The language model's runs: a sweep of rates and gammas, then seeds, by the program of `bash examples/run.sh llm`."""
import concurrent.futures
import json
import queue
import statistics
import subprocess
import time

# Rates go in half decades. A sweep begins at a method's usual rate and its neighbours and goes on while the best is at an end.
RATES = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
USUAL = {"lora": 3e-3, "pissa": 1e-3, "lora-ga": 1e-4, "lora-ga-64": 3e-4}
CONTROL = "ga-random"  # LoRA-GA with a random matrix in the gradient's place, at LoRA-GA's gamma
COMMON_RATE = 3e-4
SEEDS = [1, 2, 3]
SETTINGS = {"--steps": 40, "--batch": 8, "--evaluate-every": 8, "--held-out": 40, "--answers": 5, "--sample-batches": 4,
            "--sample-batch": 8, "--rank": 8, "--alpha": 16, "--checkpoint-every": 20}


class Runs:
    """Runs by method, rate and seed, side by side in a folder for each core; those that are there are not run again."""

    def __init__(self, program, model, data, out, workers):
        self.command = [program, "--model", model, "--data", data, "--threads", "1"]
        for name, value in SETTINGS.items():
            self.command += [name, str(value)]
        self.folders = [out / f"core{i}" for i in range(workers)]

    def known(self):
        rows = {}
        for folder in self.folders:
            path = folder / "results.jsonl"
            for line in path.open() if path.exists() else []:
                row = json.loads(line)
                rows[row["id"]] = row | {"folder": str(folder)}
        return rows

    def name(self, method, rate, seed):
        return f"{method}-rate{rate:g}-foldoc-seed{seed}"

    def run(self, wanted):
        """Those of them that are not known yet; each takes a folder that is free."""
        known = self.known()
        todo = [w for w in dict.fromkeys(wanted) if self.name(*w) not in known]
        free = queue.Queue()
        for folder in self.folders:
            free.put(folder)

        def one(item):
            method, rate, seed = item
            folder = free.get()
            try:
                with open(f"{folder}.log", "a") as log:
                    subprocess.run(self.command + ["--out", str(folder), "--methods", method, "--rates", f"{rate:g}", "--seeds", str(seed)],
                                   stdout=log, stderr=log, check=True)
            finally:
                free.put(folder)
            record = self.known().get(self.name(*item))
            print(f"{time.strftime('%H:%M:%S')} {self.name(*item)}: loss {loss_of(record):.4f}", flush=True)

        with concurrent.futures.ThreadPoolExecutor(len(self.folders)) as pool:
            list(pool.map(one, todo))

    def get(self, wanted):
        """Records of (method, rate, seed), None for a run that diverged."""
        self.run(wanted)
        known = self.known()
        return {w: r if (r := known.get(self.name(*w))) and r.get("loss") is not None else None for w in wanted}


def loss_of(record):
    return record["loss"] if record and record.get("loss") is not None else float("inf")


def sweep(runs, usual):
    """Each method's losses by rate, at the first seed."""
    tried = {}
    for method, start in usual.items():
        i = RATES.index(start)
        tried[method] = {RATES[k]: None for k in (i - 1, i, i + 1)}
    todo = [(m, r, SEEDS[0]) for m in tried for r in tried[m]]
    while todo:
        for (method, rate, _), record in runs.get(todo).items():
            tried[method][rate] = loss_of(record)
        todo = []
        for method, losses in tried.items():
            best, indices = min(losses, key=losses.get), [RATES.index(r) for r in losses]
            k = RATES.index(best)
            beyond = k - 1 if k == min(indices) else k + 1 if k == max(indices) else None
            if beyond is not None and 0 <= beyond < len(RATES):
                todo.append((method, RATES[beyond], SEEDS[0]))
    return tried


def steps_to(record, target):
    """The first evaluation at or below the target loss, or None."""
    return next((s for s, l in zip(record["steps"], record["losses"]) if l <= target), None)


def row(method, rate, records, target):
    good = [r for r in records if r]
    losses = [r["loss"] for r in good]
    reached = [steps_to(r, target) for r in good]
    return {"method": method, "rate": rate, "runs": len(records), "diverged": len(records) - len(good),
            "loss": round(statistics.mean(losses), 4) if losses else None,
            "sd": round(statistics.stdev(losses), 4) if len(losses) > 1 else None,
            "accuracy": round(statistics.mean(r["accuracy"] for r in good), 4) if good else None,
            "steps_to_lora": reached, "losses": [[round(x, 4) for x in r["losses"]] for r in good],
            "steps": good[0]["steps"] if good else [], "trainable": good[0]["trainable"] if good else None,
            "init_seconds": [round(r["init_seconds"], 1) for r in good]}


def table(runs, rates):
    """Rows of methods at their rates over all seeds; the target of each seed's runs is LoRA's mean final loss."""
    wanted = [(m, r, s) for s in SEEDS for m, r in rates.items()]
    found = runs.get(wanted)
    lora = [found[("lora", rates["lora"], s)] for s in SEEDS]
    target = statistics.mean(r["losses"][-1] for r in lora if r)
    return {"lora_loss": round(target, 4),
            "rows": [row(m, r, [found[(m, r, s)] for s in SEEDS], target) for m, r in rates.items()]}


def measure(runs):
    swept = sweep(runs, USUAL)
    best = {m: min(l, key=l.get) for m, l in swept.items()}
    ga = min(("lora-ga", "lora-ga-64"), key=lambda m: swept[m][best[m]])
    gamma = ga.removeprefix("lora-ga")  # what stands behind the method's name
    control = CONTROL + gamma
    swept |= sweep(runs, {control: best[ga]})
    best[control] = min(swept[control], key=swept[control].get)
    methods = ["lora", "pissa", ga, control]
    return {"grid": RATES, "sweep": {m: {f"{r:g}": round(x, 4) if x < float("inf") else None for r, x in l.items()} for m, l in swept.items()},
            "common": table(runs, {m: COMMON_RATE for m in methods}), "best": table(runs, {m: best[m] for m in methods})}
