"""picture.py llm.json llm.png: the record in six panels. Colours are safe for the colour-blind, told apart by line style as well."""
import json
import statistics
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LOOKS = [("#000000", "-"), ("#E69F00", "-."), ("#0072B2", "--"), ("#CC79A7", ":"), ("#009E73", (0, (6, 1, 1, 1, 1, 1)))]
plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
                     "legend.frameon": False, "savefig.dpi": 110})


def curves(ax, part, looks, title):
    for r in part["rows"]:
        colour, style = looks[r["method"]]
        mean = [statistics.mean(column) for column in zip(*r["losses"])]
        ax.plot(r["steps"], mean, linestyle=style, color=colour, label=f"{r['method']}, {r['rate']:g}")
        for one in r["losses"]:
            ax.plot(r["steps"], one, linestyle=style, color=colour, alpha=0.2, linewidth=0.8)
    ax.set(title=title, xlabel="step", ylabel="held-out loss")
    ax.legend()


def main():
    record = json.load(open(sys.argv[1]))
    trained = record["training"]
    looks = dict(zip(trained["sweep"], LOOKS))
    figure, axes = plt.subplots(2, 3, figsize=(13, 7))
    curves(axes[0][0], trained["best"], looks, "each at its own best rate (three seeds)")
    curves(axes[0][1], trained["common"], looks, "all at one rate (three seeds)")
    ax = axes[0][2]
    for method, losses in trained["sweep"].items():
        points = sorted((float(r), l) for r, l in losses.items() if l is not None)
        ax.plot(*zip(*points), linestyle=looks[method][1], color=looks[method][0], marker="o", markersize=3, label=method)
    ax.set(xscale="log", title="the sweep: last loss by rate (seed 1)", xlabel="learning rate", ylabel="held-out loss")
    ax.legend()

    sides = record["speed"]["sides"]
    names = [s["side"].replace(", ", "\n") for s in sides]
    colours = ["#0072B2"] + ["#8C8C8C"] * (len(sides) - 1)
    for ax, key, scale, title in ((axes[1][0], "tokens_per_second", 1, "training, tokens per second"),
                                  (axes[1][1], "peak_bytes", 1e-6, "peak memory of the process, MB")):
        bars = ax.bar(names, [s[key] * scale for s in sides], color=colours)
        ax.bar_label(bars, fmt="%.0f")
        ax.set(title=title)
        ax.grid(axis="x", visible=False)
    ax = axes[1][2]
    turns = record["stop"]["all"]["estimate"]["turns"]
    ax.plot(range(2, len(turns) + 2), turns, color="#0072B2", marker="o", markersize=3)
    ax.axhline(record["stop"]["tolerance"], color="#8C8C8C", linestyle="--")
    ax.axvline(record["stop"]["settled"]["estimate"]["batches"], color="#D55E00", linestyle=":")
    ax.set(title="how far a batch's last piece turned the directions", xlabel="batch of 8 definitions", ylabel="mean sine", ylim=(0, None))
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
