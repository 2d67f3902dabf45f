"""report.py OUT RESULTS: what run.sh left in OUT becomes the record in RESULTS, with ratios and a picture, and is printed.

A rehearsal is no record: it is printed and refused."""
import os
import sys

import store


def results(record, part):
    """{(section, case): result} of what passed or was said before a section broke off."""
    found = {}
    for section in record.get(part, {}).get("sections", {}).values():
        for r in section["results"]:
            found[r["section"], r["case"]] = r
    return found


def seconds(found, section, case):
    return found.get((section, case), {}).get("seconds")


def floors(ours):
    """What the device does at most, measured beside the rest."""
    rates = {}
    for (section, case), r in ours.items():
        if section == "ceilings" and r.get("seconds"):
            if "bytes" in r:
                rates[case] = {"GB/s": r["bytes"] / r["seconds"] / 1e9}
            elif "flops" in r:
                rates[case] = {"TFLOP/s": r["flops"] / r["seconds"] / 1e12}
    return rates


def pairs(ours, theirs):
    """(name, our seconds, their seconds, our loss, their loss) of what both sides did."""
    found = []

    def add(name, mine, other, own=None, peer=None):
        if mine and other:
            found.append({"case": name, "ours": mine, "theirs": other, "ratio": other / mine,
                          **({"loss": own.get("loss"), "their_loss": peer.get("loss")} if own and peer else {})})

    for model in ("7b", "8b"):
        for rank in (8, 32, 128):
            mine = ours.get((f"initialise_{model}", f"r={rank}"), {})
            for q in ("2r", "4r"):
                for kind in ("fp32", "tf32"):
                    other = theirs.get(("svd_lowrank", f"{model} r={rank} q={q} {kind}"), {})
                    add(f"start of {model} r={rank} : svd_lowrank q={q} {kind}", mine.get("seconds"), other.get("seconds"), mine, other)
    for rank in (8, 32, 128):
        mine = next((r for (s, c), r in ours.items() if s == "factorisations" and c.startswith(f"automatic balanced r={rank} ")), {})
        other = next((r for (s, c), r in ours.items() if s == "factorisations" and c.startswith(f"cusolver gesvdr r={rank} ")), {})
        add(f"4096x4096 r={rank} : gesvdr", mine.get("per_matrix"), other.get("per_matrix"), mine, other)
    for shape in ("4096x4096", "11008x4096"):
        mine = seconds(ours, "adapters", f"{shape} whole")
        for peer in ("by hand", "by hand, compiled", "peft", "peft, compiled"):
            add(f"adapter {shape} : {peer}", mine, seconds(theirs, "lora_layers", f"{shape} {peer} whole"))
    for rank in (8, 64):
        for kind in ("foreach", "fused"):
            for work in ("step", "all"):  # all: clipped, stepped and zeroed
                add(f"AdamW {work} r={rank} : {kind}", seconds(ours, "optimisers", f"float r={rank} {work}"),
                    seconds(theirs, "adamw", f"{kind} r={rank} {work}"))
        add(f"clipping r={rank} : clip_grad_norm_", seconds(ours, "optimisers", f"float r={rank} clip"),
            seconds(theirs, "adamw", f"clip_grad_norm_ r={rank} clip"))
    return found


def shares(ours):
    """What an adapter or an estimate adds, as a share of the product that it goes with."""
    found = {}
    for shape in ("4096x4096", "11008x4096"):
        base = [seconds(ours, "adapters", f"{shape} base {way}") for way in ("forward", "backward")]
        part = [seconds(ours, "adapters", f"{shape} adapter {way}") for way in ("forward", "backward")]
        if all(base) and all(part):
            found[f"adapter {shape}"] = sum(part) / sum(base)
    product = seconds(ours, "estimates", "dW product to bf16")
    for case in ("dense add", "dense add_outer", "incremental add_outer r=8", "incremental add_outer r=32"):
        if product and seconds(ours, "estimates", case):
            found[case] = seconds(ours, "estimates", case) / product
    return found


def picture(record, path):
    try:
        import matplotlib
        matplotlib.use("Agg")
        import matplotlib.pyplot as plot
    except ImportError:
        return False
    rows = record["ratios"]
    figure, axes = plot.subplots(figsize=(9, 1 + 0.25 * len(rows)))
    axes.barh([r["case"] for r in rows][::-1], [r["ratio"] for r in rows][::-1], color="#3b6ea5")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel(f"their time by ours, {record['machine']['gpu']}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    return True


def show(tests, speed):
    for part in ("tests", "memcheck", "initcheck", "races"):
        if part in tests:
            print(f"{part}: {tests[part].get('unavailable') or tests[part].get('counts')}")
    for case, rate in speed["ceilings"].items():
        print(f"{case:32} " + " ".join(f"{v:10.1f} {unit}" for unit, v in rate.items()))
    for r in speed["ratios"]:
        print(f"{r['case']:52} {1e3 * r['ours']:10.3f} ms {1e3 * r['theirs']:10.3f} ms  x{r['ratio']:.2f}")
    for case, share in speed["shares"].items():
        print(f"{case:52} {100 * share:8.1f} % of its product")


def main():
    out, folder = sys.argv[1], sys.argv[2]
    tests, speed = store.read(os.path.join(out, store.TESTS)), store.read(os.path.join(out, store.SPEED))
    if not tests or not speed:
        sys.exit(f"{out} holds no record")
    ours, theirs = results(speed, "perf"), results(speed, "baseline")
    speed.update(ceilings=floors(ours), ratios=pairs(ours, theirs), shares=shares(ours))
    show(tests, speed)
    if tests.get("rehearsal") or speed.get("rehearsal"):
        print("a rehearsal: nothing is recorded")
        return
    store.write(os.path.join(folder, store.TESTS), tests)
    store.write(os.path.join(folder, store.SPEED), speed)
    if speed["ratios"] and not picture(speed, os.path.join(folder, "cuda.png")):
        print("matplotlib was not found: no picture")


if __name__ == "__main__":
    main()
