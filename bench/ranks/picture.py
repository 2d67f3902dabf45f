"""picture.py ranks.json ranks.png: the record in four panels. Colours are safe for the colour-blind, told apart by shape as well."""
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LOOKS = {"dense": ("#000000", "-", "s"), "incremental": ("#0072B2", "--", "o"), "streamed": ("#D55E00", "-.", "^")}
plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
                     "legend.frameon": False, "savefig.dpi": 110})


def main():
    record = json.load(open(sys.argv[1]))
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.8))
    ax = axes[0]
    rows = [r for r in record["traffic"] if r["out"] == 4096]
    names = [f"{r['estimate']}\n{r['ranks']} ranks" for r in rows]
    bars = ax.bar(names, [r["wire_bytes_per_rank_and_layer"] / 1e6 for r in rows], color=[LOOKS[r["estimate"]][0] for r in rows])
    ax.bar_label(bars, fmt="%.3g")
    ax.set(yscale="log", title="MB on the wire per rank and layer (4096², r = 8)")
    ax.tick_params(axis="x", labelsize=6)
    ax.grid(axis="x", visible=False)
    ax = axes[1]
    for spectrum, alpha in (("falling", 1), ("flat", 0.5)):
        for kind in ("incremental", "streamed"):
            points = sorted((r["ranks"], r["loss"]) for r in record["loss"] if (r["spectrum"], r["estimate"]) == (spectrum, kind))
            colour, style, shape = LOOKS[kind]
            ax.plot(*zip(*points), color=colour, linestyle=style, marker=shape, markersize=4, alpha=alpha, label=f"{kind}, {spectrum}")
    ax.set(xscale="log", yscale="log", title="share of the best energy that is missed", xlabel="ranks", xticks=[1, 2, 4, 8])
    ax.set_xticklabels(["1", "2", "4", "8"])
    ax.minorticks_off()
    ax.legend()
    ax = axes[2]
    foretold = {(r["estimate"], r["ranks"]): r["predicted_seconds"] for r in record["plan"]["rows"]}
    for kind, (colour, style, shape) in LOOKS.items():
        points = sorted((r["ranks"], r["estimate_seconds"]) for r in record["scaling"]["rows"] if r["estimate"] == kind)
        ax.plot(*zip(*points), color=colour, linestyle=style, marker=shape, markersize=4, label=kind)
        ax.plot([n for n, _ in points], [foretold[kind, n] for n, _ in points], color=colour, linestyle=":", marker="x", markersize=5)
    ax.set(title=f"seconds of the estimate; dotted: foretold ({record['setup']['machine']['cores']} cores)", xlabel="ranks", xticks=[1, 2, 4], ylim=(0, None))
    ax.legend()
    ax = axes[3]
    rows = record["plan"]["rows"]
    ax.axhspan(0.75, 1.25, color="#009E73", alpha=0.15)
    for kind, (colour, _, shape) in LOOKS.items():
        points = [(r["ranks"], r["ratio"]) for r in rows if r["estimate"] == kind]
        ax.plot(*zip(*points), color=colour, linestyle="none", marker=shape, label=kind)
    ax.axhline(1, color="#8C8C8C", linewidth=0.8)
    ax.set(title="foretold / measured (band: 25 %)", xlabel="ranks", xticks=[1, 2, 4], ylim=(0, 2))
    ax.legend()
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
