"""picture.py training.json training.png: tokens per second and peak memory of each case. Colours are safe for the colour-blind."""
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
                     "axes.axisbelow": True, "legend.frameon": False, "savefig.dpi": 110})
SIDES = [("ours", "#0072B2", ""), ("PEFT, fastest form", "#E69F00", "//"), ("PEFT, the batch at once", "#8C8C8C", "..")]


def picked(row):
    """A case's three sides: ours, PEFT's fastest form, and PEFT as it is used by default."""
    sides = row["sides"]
    return [sides[0], next(s for s in sides if s["side"] == row["fastest_peer"]), sides[1]]


def bars(ax, names, groups, scale, form, title):
    width = 0.27
    for i, (label, colour, hatch) in enumerate(SIDES):
        places, heights = [x + (i - 1) * width for x in range(len(names))], [g[i] * scale for g in groups]
        drawn = ax.bar(places, heights, width, color=colour, hatch=hatch, edgecolor="white", label=label)
        ax.bar_label(drawn, fmt=form, fontsize=6.5)
    ax.set_xticks(range(len(names)), names)
    ax.set(title=title)
    ax.grid(axis="x", visible=False)


def main():
    record = json.load(open(sys.argv[1]))
    cases = {}
    for row in record["rows"]:
        cases.setdefault(row["case"], []).append(row)
    figure, axes = plt.subplots(2, len(cases), figsize=(4.3 * len(cases), 6.6), squeeze=False)
    for column, rows in enumerate(cases.values()):
        names = [f"{r['threads']} thread{'s' * (r['threads'] > 1)}\n{r['ratio_to_fastest_peer']:.2f} times the fastest" for r in rows]
        groups = [picked(r) for r in rows]
        speeds = [[s["tokens_per_second"] for s in g] for g in groups]
        bars(axes[0][column], names, speeds, 1, "%.0f", f"{rows[0]['what']}: tokens per second")
        names = [f"{r['threads']} thread{'s' * (r['threads'] > 1)}" for r in rows]
        memory = [[s["peak_bytes"] for s in g] for g in groups]
        bars(axes[1][column], names, memory, 1e-6, "%.0f", "peak memory of the process, MB")
    for ax in axes.flat:
        ax.margins(y=0.1)
    machine = record["setup"]["machine"]
    figure.suptitle(f"{machine['cpu']}, {'AVX-512' if machine['avx512'] else 'no AVX-512'}, {record['setup']['date']}\n"
                    + ", ".join(p.replace("==", " ") for p in record["setup"]["packages"]), fontsize=9)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncol=len(SIDES))
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
