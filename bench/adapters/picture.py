"""picture.py adapters.json adapters.png: the record, a row of panels for each number of threads. Passes are forward and
backward together."""
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LOOKS = {"lora": ("LoRA", "#0072B2", "o"), "dora": ("DoRA", "#D55E00", "s"), "adalora": ("AdaLoRA", "#009E73", "^")}
plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
                     "legend.frameon": False, "savefig.dpi": 110})


def panel(ax, rows, value, title, line):
    """value(row) of every shape and rank, one mark for each method."""
    cases = list(dict.fromkeys((r["out"], r["in"], r["rank"]) for r in rows))
    for method, (name, colour, mark) in LOOKS.items():
        points = [(cases.index((r["out"], r["in"], r["rank"])), value(r)) for r in rows if r["method"] == method]
        if points:
            ax.plot(*zip(*points), color=colour, marker=mark, linestyle="none", markersize=5, label=name)
    ax.axhline(line, color="#8C8C8C", linewidth=0.9)
    ax.set_xticks(range(len(cases)))
    ax.set_xticklabels([f"{o}×{i}, {r}" for o, i, r in cases], rotation=60, ha="right")
    ax.set(title=title, ylim=(0, None))


def main():
    record = json.load(open(sys.argv[1]))
    counts = record["machine"]["threads"]
    figure, axes = plt.subplots(len(counts), 5, figsize=(19, 4.4 * len(counts)), squeeze=False)
    for threads, (passes, step, layer, floor, lora) in zip(counts, axes):
        rows = [r for r in record["rows"] if r["threads"] == threads]
        adapter, whole = ([r for r in rows if r["kind"] == kind] for kind in ("adapter", "layer"))
        on = f"{threads} thread{'s' * (threads > 1)}"
        panel(passes, adapter, lambda r: r["passes"]["ratio"], f"passes: torch autograd / ours, {on}", 1)
        panel(step, adapter, lambda r: r["step"]["ratio"], "AdamW step: torch / ours", 1)
        panel(layer, whole, lambda r: r["passes"]["ratio"], "whole layer's passes: PEFT / ours", 1)
        panel(floor, adapter, lambda r: r["above_floor"], "passes: ours / floor of memory or arithmetic", 1)
        panel(lora, adapter, lambda r: r["to_lora"], "passes: ours / our LoRA's", 1)
        cases = list(dict.fromkeys((r["out"], r["in"], r["rank"]) for r in adapter))
        points = [(cases.index((r["out"], r["in"], r["rank"])), r["to_lora_floor"]) for r in adapter if r["method"] == "dora"]
        if points:
            lora.plot(*zip(*points), color=LOOKS["dora"][1], marker="_", linestyle="none", markersize=12,
                      label="the same of DoRA's and LoRA's floors")
        passes.legend()
        lora.legend()
    machine = record["machine"]
    vectors = "with" if machine["avx512"] else "without"
    figure.suptitle(f"Adapters, 2,048 tokens, out×in, rank. {machine['cpu']}, {vectors} AVX-512; {machine['peer']}."
                    " Higher is better in the first three panels, lower in the last two.")
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
