"""What follows from values alone: means, steps to LoRA's loss, LoRA-GA's gain over the others and whether the spread hides it."""
import math
import statistics

import plan


def rounded(x, digits=6):
    if isinstance(x, list):
        return [rounded(v, digits) for v in x]
    return float(f"{x:.{digits}g}") if plan.finite(x) else None


def mean_sd(values):
    """Over the finite values; sd with n - 1."""
    held = [v for v in values if v is not None]
    if not held:
        return None, None
    return rounded(statistics.fmean(held)), rounded(statistics.stdev(held)) if len(held) > 1 else None


def crossing(record, target):
    """The first step with loss <= target, linear between evaluations; and whether the first one after step 0 was there."""
    before = None
    for step, loss in zip(record["steps"], record["losses"]):
        if not plan.finite(loss):
            return None, False
        if loss <= target:
            if before is None:
                return float(step), False
            return before[0] + (step - before[0]) * (before[1] - target) / (before[1] - loss), before[0] == 0
        before = step, loss
    return None, False


def steps_to(lora, records):
    """Steps to the loss LoRA ends with, seed by seed, and how many times fewer than LoRA's own."""
    steps, own, bound = [], [], False
    for theirs, ours in zip(lora, records):
        # a LoRA that ends no better than it began sets no target
        target = theirs["losses"][-1] if theirs and theirs["losses"][-1] < theirs["losses"][0] else None
        reached, early = crossing(ours, target) if ours and plan.finite(target) else (None, False)
        bound = bound or early
        steps.append(rounded(reached))
        own.append(rounded(crossing(theirs, target)[0]) if plan.finite(target) else None)
    ratios = [rounded(o / s) if o is not None and s else None for o, s in zip(own, steps)]
    mean, sd = mean_sd(ratios)
    return {"steps_to_lora": steps, "lora_steps": own, "ratios": ratios, "ratio": mean, "ratio_sd": sd,
            "ratio_is_lower_bound": bound, "reached": sum(s is not None for s in steps)}


def compare(ours, other):
    """Gain of LoRA-GA (positive: better) over the seeds both have, against the pooled sd and the sd of paired differences."""
    sign = 1 if ours["metric"] == "accuracy" else -1
    pairs = [(a, b) for a, b in zip(ours["values"], other["values"]) if a is not None and b is not None]
    if len(pairs) < 2 or ours["mean"] is None or other["mean"] is None:
        return None
    gains = [sign * (a - b) for a, b in pairs]
    gain, paired = statistics.fmean(gains), statistics.stdev(gains)
    pooled = math.sqrt(sum(statistics.variance(side) for side in zip(*pairs)) / 2)
    beyond = abs(gain) > max(pooled, paired)
    return {"gain": rounded(gain), "pooled_sd": rounded(pooled), "paired_sd": rounded(paired), "seeds": len(pairs),
            "verdict": ("better" if gain > 0 else "worse") if beyond else "within the spread"}


def average(rows):
    """A row of means over the sets, seed by seed; None unless every set is there."""
    if len(rows) < len(plan.SETS) or any(r["mean"] is None for r in rows):
        return None
    values = [rounded(statistics.fmean(v)) if None not in v else None for v in zip(*(r["values"] for r in rows))]
    mean, sd = mean_sd(values)
    return {**rows[0], "set": "all", "values": values, "mean": mean, "sd": sd}


def averages(table):
    keys = dict.fromkeys((r["protocol"], r["method"], r["metric"]) for r in table)
    rows = (average([r for r in table if (r["protocol"], r["method"], r["metric"]) == k]) for k in keys)
    return [r for r in rows if r]


def comparisons(table):
    rows, found = table + averages(table), []
    for ours in rows:
        if ours["method"] != "lora-ga":
            continue
        for other in rows:
            if other["method"] != "lora-ga" and all(other[k] == ours[k] for k in ("protocol", "set", "metric")):
                result = compare(ours, other)
                if result:
                    found.append({"protocol": ours["protocol"], "set": ours["set"], "metric": ours["metric"], "method": "lora-ga",
                                  "against": other["method"], **result})
    return found
