"""The pictures of the evidence, from evidence.json alone. Colours are safe for the colour-blind, told apart by line style as well."""
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

import plan

COLOURS = ["#000000", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#882255"]
STYLES = ["-", "--", "-.", ":"]
PROTOCOLS = {"common": "one common rate", "best": "each method's own best rate"}
HALVES = [["lora-ga", "lora", "full", "rslora", "lora+", "pissa", "dora", "adalora"],
          ["lora-ga", "ga-random", "milora", "olora", "corda", "eva", "lora-one", "lora-sb", "gora", "lora-ga-64", "dora+lora-ga",
           "adalora+lora-ga"]]

HIGHEST_LOSS = 1.2  # a coin's is 0.69; what lies above is cut off

plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
                     "legend.frameon": False, "savefig.dpi": 100})


def look(i):
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[(i + i // len(COLOURS)) % len(STYLES)]}


def band(ax, x, mean, sd, **style):
    points = [(a, m, s or 0) for a, m, s in zip(x, mean, sd) if m is not None]
    if points:
        a, m, s = zip(*points)
        ax.plot(a, m, **style)
        ax.fill_between(a, [v - w for v, w in zip(m, s)], [v + w for v, w in zip(m, s)], color=style["color"], alpha=0.12, linewidth=0)


def bar(ax, x, y, row, colour, horizontal=True, **style):
    if row["mean"] is None:
        return
    error = {"xerr" if horizontal else "yerr": row["sd"] or 0}
    ax.errorbar(x, y, **error, fmt="o", color=colour, markersize=4, capsize=2, linewidth=1, **style)


def curves(evidence, protocol):
    rows = [c for c in evidence["curves"] if c["protocol"] == protocol]
    fig, axes = plt.subplots(len(HALVES), len(plan.SETS), figsize=(11, 6), squeeze=False, sharex=True)
    for axis_row, methods in zip(axes, HALVES):
        for ax, s in zip(axis_row, plan.SETS):
            for i, m in enumerate(methods):
                for c in rows:
                    if c["set"] == s and c["method"] == m:
                        band(ax, c["steps"], c["loss"], c["loss_sd"], label=m, **look(i))
            ax.set_title(s)
            ax.set_ylim(top=min(ax.get_ylim()[1], HIGHEST_LOSS))
        axis_row[0].set_ylabel("test loss")
        handles = [plt.Line2D([], [], **look(i)) for i in range(len(methods))]
        axis_row[-1].legend(handles, methods, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for ax in axes[-1]:
        ax.set_xlabel("step")
    fig.suptitle(f"Loss over training at {PROTOCOLS[protocol]}: mean and sd over seeds")
    return fig


def table(evidence):
    fig, axes = plt.subplots(2, len(plan.SETS), figsize=(11, 8), sharey=True)
    for axis_row, metric in zip(axes, ("loss", "accuracy")):
        for ax, s in zip(axis_row, plan.SETS):
            for shift, colour, protocol in ((-0.17, "#0072B2", "common"), (0.17, "#D55E00", "best")):
                for row in evidence["table"]:
                    if (row["protocol"], row["set"], row["metric"]) == (protocol, s, metric):
                        face = {} if protocol == "common" else {"markerfacecolor": "white"}
                        bar(ax, row["mean"], plan.METHODS.index(row["method"]) + shift, row, colour, **face)
            ax.axhspan(*(plan.METHODS.index("lora-ga") + d for d in (-0.5, 0.5)), color="#F0E442", alpha=0.25, linewidth=0)
            if metric == "loss":
                ax.set_xlim(right=min(ax.get_xlim()[1], HIGHEST_LOSS))
            ax.set_title(f"{s}: test {metric}")
            ax.set_yticks(range(len(plan.METHODS)), plan.METHODS)
            ax.set_ylim(len(plan.METHODS) - 0.5, -0.5)
    handles = [plt.Line2D([], [], color="#0072B2", marker="o", linestyle=""),
               plt.Line2D([], [], color="#D55E00", marker="o", markerfacecolor="white", linestyle="")]
    fig.legend(handles, list(PROTOCOLS.values()), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=2)
    fig.suptitle("Every method and set: mean and sd over seeds")
    return fig


def cases(rows, keys, title):
    """One column per set, one line per case; loss above accuracy."""
    sets = list(dict.fromkeys(r["set"] for r in rows))
    names = list(dict.fromkeys(keys(r) for r in rows))
    fig, axes = plt.subplots(2, len(sets), figsize=(2 + 2.3 * len(sets), 1.6 + 0.44 * len(names)), sharey=True, squeeze=False)
    for axis_row, metric in zip(axes, ("loss", "accuracy")):
        for ax, s in zip(axis_row, sets):
            for row in rows:
                if row["set"] == s and row["metric"] == metric:
                    bar(ax, row["mean"], names.index(keys(row)), row, COLOURS[1])
            if metric == "loss":
                ax.set_xlim(right=min(ax.get_xlim()[1], HIGHEST_LOSS))
            ax.set_title(f"{s}: test {metric}")
            ax.set_yticks(range(len(names)), names)
            ax.set_ylim(len(names) - 0.5, -0.5)
    fig.suptitle(title)
    return fig


def sweep(evidence):
    rows = -(-len(evidence["sweep"]) // 5)
    fig, axes = plt.subplots(rows, 5, figsize=(12, 2 * rows), sharex=True, sharey=True, squeeze=False)
    losses = [v for row in evidence["sweep"] for one in row["losses"].values() for v in one if v is not None]
    for ax, row in zip(axes.flat, evidence["sweep"]):
        for i, (s, one) in enumerate(row["losses"].items()):
            points = [(r, v) for r, v in zip(row["rates"], one) if v is not None]
            if points:
                ax.plot(*zip(*points), marker=".", label=s, **look(i + 1))
        if row["best"]:
            ax.axvline(row["best"], color="#D55E00", linewidth=1, linestyle=":")
        ax.set_xscale("log")
        ax.set_title(row["method"] + (" (edge)" if row["best_at_edge"] else ""))
    axes.flat[0].set_ylim(min(losses) - 0.02, min(max(losses) + 0.02, HIGHEST_LOSS))
    axes.flat[0].legend()
    for ax in axes.flat[len(evidence["sweep"]):]:
        ax.set_axis_off()
    for ax in axes[-1]:
        ax.set_xlabel("learning rate")
    for ax in axes[:, 0]:
        ax.set_ylabel("validation loss")
    fig.suptitle("The sweep: loss against rate; dotted: the rate chosen by the mean over both sets")
    return fig


def coverage(evidence):
    sets = list(dict.fromkeys(r["set"] for r in evidence["coverage"]))
    fig, axes = plt.subplots(1, len(sets), figsize=(2 + 2.3 * len(sets), 2.8), sharey=True, squeeze=False)
    for ax, s in zip(axes[0], sets):
        for i, row in enumerate(r for r in evidence["coverage"] if r["set"] == s):
            ax.plot(row["layers"], marker=".", markersize=3, linewidth=1, label=f"r = {row['rank']}", **look(i + 1))
        ax.set_title(s)
        ax.set_xlabel("layer, first to last")
    axes[0][0].set_ylabel("share of energy in 2r triplets")
    axes[0][0].legend()
    fig.suptitle(f"Coverage of each layer's gradient, seed {plan.SEEDS[0]}")
    return fig


def batch(evidence):
    rows = evidence["batch"]
    metrics = [m for m in ("sign_similarity", "magnitude_similarity", "loss", "accuracy") if any(r["metric"] == m for r in rows)]
    fig, axes = plt.subplots(1, len(metrics), figsize=(2.7 * len(metrics), 2.8), squeeze=False)
    for ax, metric in zip(axes[0], metrics):
        for i, s in enumerate(dict.fromkeys(r["set"] for r in rows)):
            some = [r for r in rows if r["metric"] == metric and r["set"] == s and r["mean"] is not None]
            if some:
                ax.errorbar([r["snippets"] for r in some], [r["mean"] for r in some], [r["sd"] or 0 for r in some], marker=".", capsize=2,
                            label=s, **look(i + 1))
        ax.set_xscale("log", base=2)
        ax.set_title(metric.replace("_", " ") if "similarity" in metric else "test " + metric)
        ax.set_xlabel("snippets sampled")
    axes[0][0].legend()
    fig.suptitle(f"The gradient's sample against {plan.REFERENCE_SAMPLE} snippets, and what LoRA-GA makes of it")
    return fig


def draw(evidence, folder):
    """Writes what there is data for; returns {name: path}."""
    wanted = {}
    if evidence["table"]:
        wanted["table"] = lambda: table(evidence)
        for protocol in PROTOCOLS:
            wanted["curves-" + protocol] = lambda p=protocol: curves(evidence, p)
    if any(v is not None for row in evidence["sweep"] for v in row["mean"]):
        wanted["sweep"] = lambda: sweep(evidence)
    for name, keys, title in (("ablation", lambda r: r["arm"], "From LoRA to LoRA-GA, arm by arm, at the common rate"),
                              ("directions", lambda r: r["directions"], "LoRA-GA's directions, at the common rate"),
                              ("ranks", lambda r: f"{r['method']} r={r['rank']}", "Ranks, at the common rate")):
        if evidence[name]:
            wanted[name] = lambda n=name, k=keys, t=title: cases(evidence[n], k, t)
    if evidence["coverage"]:
        wanted["coverage"] = lambda: coverage(evidence)
    if evidence["batch"]:
        wanted["batch"] = lambda: batch(evidence)
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.endswith(".png") and name[:-4] not in wanted:
            os.remove(os.path.join(folder, name))  # of an earlier report
    paths = {}
    for name, make in wanted.items():
        figure = make()
        figure.tight_layout()
        paths[name] = os.path.join(folder, name + ".png")
        figure.savefig(paths[name], bbox_inches="tight")
        plt.close(figure)
        with Image.open(paths[name]) as image:
            small = image.convert("RGB").quantize(96, dither=Image.Dither.NONE)  # a third of the bytes
        small.save(paths[name], optimize=True)
    return paths
