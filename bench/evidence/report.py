"""Makes bench/results/evidence.json from the records, and has the plots and docs/evidence.md made from it."""
import glob
import json
import os
import re
import statistics

import plan
from files import json_lines, replace
from real_spectra import spectra_of, svd_presets
from verdicts import averages, comparisons, mean_sd, rounded, steps_to


def diverges(record):
    """The program ends a run whose loss is not finite with an error that says so."""
    return bool(record) and ("diverged" in record["error"] if "error" in record else not plan.finite(record["loss"]))


class Builder:
    def __init__(self, settings, records):
        self.settings, self.chosen, self.records = settings, settings["chosen"], records
        self.extra = plan.rates_beyond(self.chosen, records)
        self.rates = plan.rates_from(self.chosen, records)
        self.planned = plan.stages(self.chosen, self.rates or plan.UNKNOWN_RATES, self.extra)
        if not self.rates:  # only these are known without the sweep's result
            self.planned = {n: items if n in ("sweep", "coverage") else [] for n, items in self.planned.items()}
        self.common = self.rates["common"] if self.rates else None

    def record(self, item):
        found = self.records.get(item["id"])
        return None if found is None or "error" in found else found

    # Rows: one per method, set and metric, with a value per seed.

    def rows(self, keys, make):
        """make(seed) gives the item. Two rows, loss and accuracy; none where nothing was run."""
        items = [make(seed) for seed in plan.SEEDS]
        records = [self.record(i) for i in items]
        if not any(i["id"] in self.records for i in items):
            return []
        spec, found = items[0], []
        for metric in ("loss", "accuracy"):
            values = [rounded(r.get(metric)) if r else None for r in records]
            mean, sd = mean_sd(values)
            diverged = sum(diverges(self.records.get(i["id"])) for i in items)
            adapter = {k: None if spec["method"] == "full" else spec[k] for k in ("rank", "alpha")}
            row = {**keys, "metric": metric, "method": spec["method"], "set": spec["set"], **adapter,
                   "gamma": plan.GAMMAS.get(spec["method"]), "lr": spec["lr"], "steps": spec.get("steps") or self.steps_of(records),
                   "seeds": plan.SEEDS, "mean": None if diverged else mean, "sd": None if diverged else sd, "values": values}
            if diverged:
                row["diverged"] = diverged
            found.append(row)
        return found

    @staticmethod
    def steps_of(records):
        """With epochs in place of steps: where the run ended."""
        return next((r["steps"][-1] for r in records if r and r.get("steps")), None)

    def item(self, method, set_name, lr, seed, **more):
        return plan.train(self.chosen, method, set_name, lr, seed, **more)

    def protocols(self):
        return {"common": lambda m: self.common, "best": lambda m: self.rates["best"][m]} if self.rates else {}

    def table(self):
        return [row for protocol, rate in self.protocols().items() for m in plan.METHODS for s in plan.SETS
                for row in self.rows({"protocol": protocol}, lambda seed: self.item(m, s, rate(m), seed))]

    def at_common(self, stage, cases):
        """cases: (keys, method, what differs from the usual run)."""
        if not self.rates or stage in self.chosen["dropped"]:
            return []
        sets = [plan.EPOCHS_SET] if stage == "epochs" else self.chosen["late_sets"]
        return [row for keys, m, more in cases for s in sets
                for row in self.rows({"protocol": "common", **keys}, lambda seed: self.item(m, s, self.common, seed, **more))]

    def ablation(self):
        return self.at_common("ablation", [({"arm": m}, m, {}) for m in ["lora", *plan.ARMS, "ga-random", "lora-ga"]])

    def directions(self):
        return self.at_common("directions", [({"directions": d}, "lora-ga", {"directions": d}) for d in plan.DIRECTIONS])

    def ranks(self):
        return self.at_common("ranks", [({}, m, {"rank": r}) for m in plan.RANK_METHODS for r in plan.RANKS])

    def epochs(self):
        more = {"epochs": plan.EPOCHS, "evaluate_every": plan.epochs_every(self.chosen)}
        return self.at_common("epochs", [({"epochs": plan.EPOCHS}, m, more) for m in plan.EPOCHS_METHODS])

    def batch(self):
        rows = []
        for s in self.chosen["late_sets"] if "batch" not in self.chosen["dropped"] else []:
            for n in plan.SAMPLES:
                records = [self.record(plan.gradient(s, seed, n, plan.REFERENCE_SAMPLE)) for seed in plan.SEEDS]
                for key in ("sign_similarity", "magnitude_similarity"):
                    if any(records):
                        values = [rounded(r[key]) if r else None for r in records]
                        mean, sd = mean_sd(values)
                        rows.append({"snippets": n, "against": plan.REFERENCE_SAMPLE, "set": s, "metric": key, "seeds": plan.SEEDS,
                                     "mean": mean, "sd": sd, "values": values})
        return rows + self.at_common("batch", [({"snippets": n}, "lora-ga", {"count": n}) for n in plan.SAMPLES])

    def coverage(self):
        rows = []
        for s in plan.SETS:
            records = [self.record(plan.gradient(s, seed, spectra=seed == plan.SEEDS[0])) for seed in plan.SEEDS]
            for rank in plan.RANKS:
                held = [[l["coverage"][str(rank)] for l in r["layers"]] if r else None for r in records]
                if not any(held):
                    continue
                means = [rounded(statistics.fmean(h)) if h else None for h in held]
                least = [min(r["layers"], key=lambda l: l["coverage"][str(rank)]) if r else None for r in records]
                lowest = [rounded(l["coverage"][str(rank)]) if l else None for l in least]
                rows.append({"set": s, "rank": rank, "triplets": 2 * rank, "snippets": plan.SAMPLE, "seeds": plan.SEEDS,
                             "mean": mean_sd(means)[0], "minimum": min(v for v in lowest if v is not None), "values": means,
                             "minima": lowest, "minimum_layers": [l["name"] if l else None for l in least],
                             "layers": rounded(next(h for h in held if h), 5)})
        return rows

    def init_cost(self):
        rows = []
        for m in plan.METHODS:
            items = [self.item(m, s, rate(m), seed) for s in plan.SETS for rate in self.protocols().values() for seed in plan.SEEDS]
            held = [r for i in {i["id"]: i for i in items}.values() if (r := self.record(i))]
            if held:
                seconds, step = statistics.median(r["init_seconds"] for r in held), self.settings["costs"]["step"][m]
                rows.append({"method": m, "seconds": rounded(seconds), "peak_bytes": int(statistics.median(r["init_peak_bytes"] for r in held)),
                             "training_peak_bytes": int(statistics.median(r["training_peak_bytes"] for r in held)), "trainable": held[0]["trainable"], "step_seconds": rounded(step),
                             "in_steps": rounded(seconds / step) if step > 0 else None, "runs": len(held)})
        return rows

    def sweep(self):
        rows = []
        for m, losses in plan.sweep_losses(self.chosen, self.records, self.extra).items():
            items = [i for i in self.planned["sweep"] if i["method"] == m]
            if not any(i["id"] in self.records for i in items):
                continue
            rates, best = list(losses), plan.best_of(losses)
            one = {s: [rounded((self.records.get(i["id"]) or {}).get("loss")) for i in sorted(items, key=lambda i: i["lr"]) if i["set"] == s]
                   for s in plan.SWEEP_SETS}
            rows.append({"method": m, "rates": rates, "losses": one, "mean": rounded([losses[r] for r in rates]), "best": best,
                         "extended": any(e[0] == m for e in self.extra), "best_at_edge": best in (rates[0], rates[-1])})
        return rows

    # Curves over training.

    def curve(self, protocol, items):
        records = [self.record(i) for i in items]
        held = [r for r in records if r]
        if not held:
            return None
        spec, steps = items[0], held[0]["steps"]

        def over_seeds(key):
            columns = [mean_sd([rounded(r[key][i]) for r in held]) for i in range(min(len(r[key]) for r in held))]
            return rounded([c[0] for c in columns], 5), rounded([c[1] for c in columns], 5)

        loss, loss_sd = over_seeds("losses")
        accuracy, accuracy_sd = over_seeds("accuracies")
        return {"protocol": protocol, "method": spec["method"], "set": spec["set"], "lr": spec["lr"], "steps": steps, "loss": loss,
                "loss_sd": loss_sd, "accuracy": accuracy, "accuracy_sd": accuracy_sd, "train_loss": over_seeds("train_losses")[0],
                "seeds": [s for s, r in zip(plan.SEEDS, records) if r]}

    def curves(self):
        found = []
        for protocol, rate in self.protocols().items():
            for s in plan.SETS:
                lora = [self.record(self.item("lora", s, rate("lora"), seed)) for seed in plan.SEEDS]
                for m in plan.METHODS:
                    items = [self.item(m, s, rate(m), seed) for seed in plan.SEEDS]
                    row = self.curve(protocol, items)
                    if row:
                        found.append(row | steps_to(lora, [self.record(i) for i in items]))
        if self.rates and "epochs" not in self.chosen["dropped"]:
            for m in plan.EPOCHS_METHODS:
                row = self.curve("epochs", [self.item(m, plan.EPOCHS_SET, self.common, seed, epochs=plan.EPOCHS,
                                                      evaluate_every=plan.epochs_every(self.chosen)) for seed in plan.SEEDS])
                if row:
                    found.append(row)
        return found

    # What is missing.

    def failed(self):
        return [{"id": i["id"], "stage": stage, **{k: i[k] for k in ("method", "set", "seed", "lr") if k in i},
                 "diverged": diverges(self.records[i["id"]]),
                 "error": self.records[i["id"]]["error"]}
                for stage, items in self.planned.items() for i in items if "error" in self.records.get(i["id"], {})]

    def not_run(self):
        found = []
        hours = self.settings["asked"]["budget_hours"]
        for stage, items in self.planned.items():
            left = [i["id"] for i in items if i["id"] not in self.records]
            if left:
                found.append({"stage": stage, "why": "not run yet", "count": len(left), "ids": left})
        if not self.rates:
            found += [{"stage": stage, "why": "needs the sweep's rates", "count": len(items), "ids": []}
                      for stage, items in plan.stages(self.chosen, plan.UNKNOWN_RATES).items() if stage not in ("sweep", "coverage")]
        else:
            everything = plan.stages({**self.chosen, "late_sets": plan.SETS, "more_sets": plan.SETS, "dropped": []}, self.rates, self.extra)
            planned = {i["id"] for items in self.planned.values() for i in items}
            for stage, items in everything.items():
                left = [i for i in items if i["id"] not in planned and i["id"] not in self.records]
                if left:
                    sets = [s for s in plan.SETS if any(i["set"] == s for i in left)]
                    found.append({"stage": stage, "why": f"left out for a budget of {hours:g} hours: {', '.join(sets)}", "count": len(left),
                                  "ids": [i["id"] for i in left]})
        if self.chosen["steps"] < plan.STEPS:
            found.append({"stage": "all", "why": f"{self.chosen['steps']} steps a run instead of {plan.STEPS}", "count": 0, "ids": []})
        return found


def data_of(work):
    """What the program says of each set when it reads it: snippets, how many were dropped, cut, positive, and the parts."""
    found = {}
    for path in sorted(glob.glob(os.path.join(work, "*.log")), key=os.path.getmtime):
        for line in open(path):
            name, _, rest = line.strip().partition(" ")
            if name in plan.SETS and rest.strip()[:1].isdigit():
                words = re.findall(r"(\d+) (?:to )?(\w+)", rest)
                found[name] = {word: int(count) for count, word in words}
    return {s: found[s] for s in plan.SETS if s in found}


def write(args, settings, records):
    import document
    import plots

    builder = Builder(settings, records)
    os.makedirs(args.results, exist_ok=True)
    spectra_path = os.path.join(args.results, "spectra.json")
    text = spectra_of(builder)
    if text:
        replace(spectra_path, text)
    presets, why = svd_presets(args, spectra_path)

    sessions_path = os.path.join(args.work, "sessions.jsonl")
    sessions = [json.loads(line) for line in open(sessions_path)] if os.path.exists(sessions_path) else []
    last = sessions[-1] if sessions else {}
    table = builder.table()
    evidence = {
        "setup": {
            "command": "bash bench/run.sh evidence", "date": last.get("date"), "commit": last.get("commit"),
            "commits": list(dict.fromkeys(s["commit"] for s in sessions)), "device": last.get("device"), "threads": last.get("threads"),
            "machine": last.get("machine"), "asked": settings["asked"], "chosen": builder.chosen, "rule": plan.RULE,
            "seconds_per_stage": settings.get("seconds", {}), "probes": {k: settings["costs"][k] for k in ("step", "curve", "snippet")},
            "seeds": plan.SEEDS, "sweep_seed": plan.SWEEP_SEED, "sweep_sets": plan.SWEEP_SETS, "rates": plan.RATES,
            "common_lr": builder.common, "best_lr": builder.rates["best"] if builder.rates else None,
            "rank": plan.RANK, "alpha": plan.ALPHA, "batch": plan.BATCH, "gammas": plan.GAMMAS, "lora_plus_ratio": plan.LORA_PLUS_RATIO,
            "sample": plan.SAMPLE, "data": data_of(args.work)},
        "table": table, "comparisons": comparisons(table), "averages": averages(table), "curves": builder.curves(),
        "ablation": builder.ablation(), "directions": builder.directions(), "batch": builder.batch(), "coverage": builder.coverage(),
        "ranks": builder.ranks(), "epochs": builder.epochs(), "init_cost": builder.init_cost(), "sweep": builder.sweep(),
        "svd_presets": presets or {"rows": [], "misses": []}, "failed": builder.failed(), "not_run": builder.not_run()}
    if why:
        evidence["not_run"].append({"stage": "svd_presets", "why": why, "count": 0, "ids": []})
    replace(os.path.join(args.results, "evidence.json"), json_lines(evidence))
    pictures = plots.draw(evidence, os.path.join(args.results, "evidence"))
    main_job, picture = document.main_job_of(args.results)
    replace(args.document, document.text(evidence, {**pictures, **picture}, os.path.dirname(os.path.abspath(args.document)), main_job))
    print("written:", os.path.join(args.results, "evidence.json"), args.document)
