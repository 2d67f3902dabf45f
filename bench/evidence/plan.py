"""What the evidence consists of: items for examples/sentiment, in stages, and how much of it fits a budget.

An item's id holds a hash of all it asks for, so stages that need the same run share it, and another choice of steps
never mixes with records of an earlier one.
"""
import hashlib
import json
import math

SETS = ["movie", "amazon", "nyt", "tweets"]
MORE_METHODS = ["milora", "olora", "corda", "eva", "lora-one", "lora-sb", "gora", "lora-ga-64", "dora+lora-ga",
                "adalora+lora-ga"]  # not in the paper's tables, or with its other gamma
METHODS = ["full", "lora", "rslora", "lora+", "pissa", "dora", "adalora", "lora-ga", "ga-random", *MORE_METHODS]
ARMS = ["gaussian", "+so", "+ga"]  # between lora and lora-ga
DIRECTIONS = ["ArB2r", "A2rBr", "ArBr", "random"]
RANKS = [8, 32, 128]
SAMPLES = [8, 16, 32, 64, 128, 256]
REFERENCE_SAMPLE = 2048
SEEDS = [1, 2, 3]
SWEEP_SEED = 100
SWEEP_SETS = ["movie", "tweets"]
RATES = [3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
BELOW, ABOVE = 1e-5, 3e-2  # one step more, for a method whose best rate is the grid's first or last
EPOCHS, EPOCHS_SET, EPOCHS_METHODS = 2, "amazon", ["full", "lora", "lora-ga"]  # the smallest set
RANK_METHODS = ["lora", "rslora", "lora-ga"]
RANK, ALPHA, BATCH, LORA_PLUS_RATIO = 8, 16, 16, 16
GAMMAS = {m: 16 for m in ("lora-ga", "ga-random", "+so", "dora+lora-ga", "adalora+lora-ga")} | {"lora-ga-64": 64, "lora-one": 128}
STEPS, FEWEST_STEPS = 60, 40
MICRO = 16  # snippets per batch of the gradient's sample
SAMPLE = 64
PROBE_STEPS, LONG_PROBE = 6, 24
LATE = ["ablation", "directions", "batch", "ranks", "epochs"]  # given up from the last one on
STAGES = ["sweep", "table", "ablation", "directions", "batch", "coverage", "ranks", "epochs"]

RULE = (f"In this order until the estimate fits: 6, then 4 evaluations in a run; {STEPS}, 48, {FEWEST_STEPS} steps (fixed if --steps is "
        f"given); 4, 2 sets in ablation, directions, batch and ranks; {' and '.join(SWEEP_SETS)} only for the table's methods that the "
        "paper's tables do not have; 1 set in ablation and the like; without epochs, ranks, batch, directions, ablation, one after the "
        "other; 30, 20 steps. The paper's methods on all sets, the table's seeds and the sweep always stay.")


def with_id(spec):
    text = json.dumps(spec, sort_keys=True)
    words = [spec.get("method", spec["kind"]), spec["set"], f"seed{spec['seed']}"]
    if "lr" in spec:
        words.append(f"lr{spec['lr']:g}")
    return {"id": "-".join(words + [hashlib.sha1(text.encode()).hexdigest()[:8]]), **spec}


def sample(count):
    return {"sample_batches": max(1, count // MICRO), "sample_batch": min(count, MICRO)}


def train(settings, method, set_name, lr, seed, part="test", rank=RANK, directions="ArB2r", count=SAMPLE, epochs=None,
          evaluate_every=None):
    length = {"epochs": epochs} if epochs else {"steps": settings["steps"]}
    spec = {"kind": "train", "method": method, "set": set_name, "rank": rank, "alpha": ALPHA, "gamma": GAMMAS.get(method, 16),
            "lr": lr, "seed": seed, **length, "batch": BATCH, "directions": directions, **sample(count),
            "evaluate_every": evaluate_every or settings["evaluate_every"], "part": part}
    if method == "lora+":
        spec["ratio"] = LORA_PLUS_RATIO
    return with_id(spec)


def gradient(set_name, seed, count=SAMPLE, against=None, spectra=False):
    spec = {"kind": "gradient", "set": set_name, "seed": seed, **sample(count), "ranks": RANKS, "spectra": spectra}
    if against:
        spec["against"] = sample(against)
    return with_id(spec)


def probe(method="lora", steps=PROBE_STEPS, every=PROBE_STEPS):
    return train({"steps": steps, "evaluate_every": every}, method, SWEEP_SETS[0], 1e-4, SWEEP_SEED, "validation")


LONGER, OFTENER = probe(steps=LONG_PROBE, every=LONG_PROBE), probe(every=1)


def probes():
    return [LONGER, OFTENER, *map(probe, METHODS + ARMS)]


def sweep(settings, rates=RATES, methods=METHODS):
    return [train(settings, m, s, lr, SWEEP_SEED, "validation", evaluate_every=settings["steps"])
            for m in methods for lr in rates for s in SWEEP_SETS]


def epochs_every(settings):
    return 4 * settings["evaluate_every"]


def stages(settings, rates, extra_rates=()):
    """{stage: items}. rates: {"common": rate, "best": {method: rate}}; extra_rates: (method, rate) beyond the sweep's grid."""
    common, best = rates["common"], rates["best"]
    late = settings["late_sets"]

    def at_common(method, sets, **more):
        return [train(settings, method, s, common, seed, **more) for s in sets for seed in SEEDS]

    def sets_of(method):
        return settings["more_sets"] if method in MORE_METHODS else SETS

    found = {
        "sweep": sweep(settings) + [i for m, lr in extra_rates for i in sweep(settings, [lr], [m])],
        "table": [i for m in METHODS for i in at_common(m, sets_of(m))]
                 + [train(settings, m, s, best[m], seed) for m in METHODS for s in sets_of(m) for seed in SEEDS],
        "ablation": [i for m in ["lora", *ARMS, "ga-random", "lora-ga"] for i in at_common(m, late)],
        "directions": [i for d in DIRECTIONS for i in at_common("lora-ga", late, directions=d)],
        "batch": [gradient(s, seed, n, REFERENCE_SAMPLE) for s in late for n in SAMPLES for seed in SEEDS]
                 + [i for n in SAMPLES for i in at_common("lora-ga", late, count=n)],
        "coverage": [gradient(s, seed, spectra=seed == SEEDS[0]) for s in SETS for seed in SEEDS],
        "ranks": [i for m in RANK_METHODS for r in RANKS for i in at_common(m, late, rank=r)],
        "epochs": [i for m in EPOCHS_METHODS
                   for i in at_common(m, [EPOCHS_SET], epochs=EPOCHS, evaluate_every=epochs_every(settings))],
    }
    seen = set()  # each run belongs to the first stage that needs it
    for name in STAGES:
        kept = []
        for i in found[name]:
            if i["id"] not in seen:
                seen.add(i["id"])
                kept.append(i)
        found[name] = [] if name in settings["dropped"] else kept
    return found


def ladder(steps=None):
    first = steps or STEPS
    cuts = [(first, 6), (first, 4)] + ([] if steps else [(48, 4), (FEWEST_STEPS, 4)])
    rows = [{"steps": n, "evaluate_every": max(1, n // e), "late_sets": SETS, "more_sets": SETS, "dropped": []} for n, e in cuts]
    rows.append({**rows[-1], "late_sets": SETS[:2]})
    rows.append({**rows[-1], "more_sets": SWEEP_SETS})
    rows.append({**rows[-1], "late_sets": SETS[:1]})
    rows += [{**rows[-1], "dropped": LATE[-k:]} for k in range(1, len(LATE) + 1)]
    rows += [{**rows[-1], "steps": n, "evaluate_every": n // 4} for n in ([] if steps else (30, 20))]
    return rows


def costs_from(records):
    """Seconds on one thread, from the probes: per method "step" and "init", "curve" (an evaluation on the way), "snippet" (of the
    last evaluation, which sees the whole part), "rest" (of a run), "part" (snippets of a part), "spectra" (of a gradient)."""
    def measured(item):
        return records.get(item["id"], {}).get("seconds")

    base = records[probe()["id"]]
    step = max(1e-3, (measured(LONGER) - base["seconds"]) / (LONG_PROBE - PROBE_STEPS))
    curve = max(0.0, (measured(OFTENER) - base["seconds"]) / (PROBE_STEPS - 1))
    fixed = max(0.0, base["seconds"] - base["init_seconds"] - PROBE_STEPS * step - curve)  # the last evaluation, building the model
    steps, starts = {}, {}
    for m in METHODS + ARMS:
        found = records.get(probe(m)["id"], {})
        spent = found.get("seconds", base["seconds"]) - found.get("init_seconds", base["init_seconds"]) - curve - fixed
        steps[m], starts[m] = max(0.5 * step, spent / PROBE_STEPS), found.get("init_seconds", base["init_seconds"])
    return {"step": steps, "init": starts, "curve": curve, "snippet": fixed / base["n_test"], "spectra": starts["lora-ga"],
            "part": {"validation": base["n_test"], "test": 2 * base["n_test"]}, "steps_of_an_epoch": 150}


def cost(item, costs):
    if item["kind"] == "gradient":
        counts = [item] + ([item["against"]] if "against" in item else [])
        return costs["spectra"] + costs["step"]["full"] / BATCH * sum(c["sample_batches"] * c["sample_batch"] for c in counts)
    steps, m = item.get("steps") or item["epochs"] * costs["steps_of_an_epoch"], item["method"]
    return (costs["init"][m] + steps * costs["step"][m] + math.ceil(steps / item["evaluate_every"]) * costs["curve"]
            + costs["snippet"] * costs["part"][item["part"]])


# Before the sweep: every method but full has a best rate of its own.
UNKNOWN_RATES = {"common": 1.0, "best": {m: 1.0 if m == "full" else 2.0 for m in METHODS}}


def estimate(settings, costs, threads):
    planned = stages(settings, UNKNOWN_RATES)
    return sum(cost(i, costs) for items in planned.values() for i in items) / threads


def choose(budget, costs, threads, steps=None):
    """The first rung of the ladder that fits budget seconds, or the last; with its estimate."""
    for rung in ladder(steps):
        seconds = estimate(rung, costs, threads)
        if seconds <= budget:
            break
    return {**rung, "estimated_seconds": round(seconds)}


def finite(x):
    return isinstance(x, (int, float)) and math.isfinite(x)


def sweep_losses(settings, records, extra_rates=()):
    """{method: {rate: loss}}: the mean over the sweep's sets, None where one of them failed or diverged."""
    found = {}
    for item in stages(settings, UNKNOWN_RATES, extra_rates)["sweep"]:
        loss = records.get(item["id"], {}).get("loss")
        found.setdefault(item["method"], {}).setdefault(item["lr"], []).append(loss if finite(loss) else None)
    return {m: {lr: None if None in v else sum(v) / len(v) for lr, v in sorted(rows.items())} for m, rows in found.items()}


def best_of(losses):
    held = {lr: loss for lr, loss in losses.items() if loss is not None}
    return min(held, key=held.get) if held else None


def rates_beyond(settings, records):
    """(method, rate) for each method whose best rate is the first or last of the grid."""
    ends = {RATES[0]: BELOW, RATES[-1]: ABOVE}
    best = {m: best_of(losses) for m, losses in sweep_losses(settings, records).items()}
    return [(m, ends[lr]) for m, lr in best.items() if lr in ends]


def rates_from(settings, records):
    """What the sweep found, or None until it is complete. Methods that have none, since all failed, get the common rate."""
    extra = rates_beyond(settings, records)
    if any(i["id"] not in records for i in stages(settings, UNKNOWN_RATES, extra)["sweep"]):
        return None
    best = {m: best_of(losses) for m, losses in sweep_losses(settings, records, extra).items()}
    if best["full"] is None:
        return None
    return {"common": best["full"], "best": {m: lr or best["full"] for m, lr in best.items()}}
