"""The records' pictures. Colours are safe for the colour-blind, told apart by shape as well."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
                     "legend.frameon": False, "savefig.dpi": 110})
LOOKS = {"balanced": ("#0072B2", "o"), "tight": ("#D55E00", "^"), "incremental": ("#009E73", "s")}
SHAPES = {(4096, 4096): -0.3, (3072, 768): 0.03, (768, 768): 0.33}  # places around a rank's


def title_of(machine):
    vectors = "AVX-512" if machine["avx512"] else "AVX2" if machine["avx2"] else "no AVX2"
    return f"{machine['cpu']}, {machine['cores']} cores, {vectors}, {machine['date']}"


def torch_of(about):
    names = {"Math Kernel": "MKL", "OpenBLAS": "OpenBLAS"}
    blas = next((name for word, name in names.items() if word in about["blas"]), "another BLAS")
    return f"torch {about['torch'].split('+')[0]}, {blas}"


def ratios(record, path):
    """One panel for each peer: how many times as fast we are, by rank and shape (small ones are left out); filled: one thread."""
    peers, ranks = record["machine"]["peers"], sorted({r["rank"] for r in record["rows"]})
    rows = [r for r in record["rows"] if (r["m"], r["n"]) in SHAPES]
    most = max((p["ratio"] for r in rows for p in r["peers"].values()), default=1)
    figure, axes = plt.subplots(1, len(peers), figsize=(7 * len(peers), 4.4), squeeze=False)
    for ax, (name, about) in zip(axes[0], peers.items()):
        labels = set()
        for r in rows:
            side = r["name"].split("-")[-1]
            one = r["threads"] == 1
            colour, shape = LOOKS[side]
            label = f"{side}, {'one thread' if one else str(r['threads']) + ' threads'}"
            x = ranks.index(r["rank"]) + SHAPES[r["m"], r["n"]] + {"balanced": -0.05, "tight": 0.05, "incremental": 0.12}[side]
            ax.plot(x, r["peers"][name]["ratio"], shape, color=colour, markersize=5, markerfacecolor=colour if one else "none",
                    label=None if label in labels else label)
            labels.add(label)
        ax.axhline(1, color="black", linestyle="--", linewidth=0.8)
        ax.set(title=f"times as fast as {torch_of(about)} ({name})", ylim=(0, 1.05 * most),
               xticks=[i + s for i in range(len(ranks)) for s in SHAPES.values()], xlim=(-0.5, len(ranks) - 0.5))
        names = [f"{m}²" if m == n else f"{m}×{n}\nrank {r}" for r in ranks for m, n in SHAPES]
        ax.set_xticklabels(names, fontsize=7)
        ax.grid(axis="x", visible=False)
        for i in range(1, len(ranks)):
            ax.axvline(i - 0.5, color="#8C8C8C", linewidth=0.6)
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(f"time of torch.svd_lowrank(q=4r, niter=4) / time of loraga, same run. {title_of(record['machine'])}")
    figure.tight_layout()
    figure.savefig(path)


def products(record, path):
    """GF/s by width, a panel for each number of threads and leading dimension."""
    looks = {"ab": ("A·B", "#0072B2", "o"), "atb": ("Aᵀ·B", "#D55E00", "^")}
    spreads, counts = ([limits[key] for limits in record["limits"]] for key in ("leading_dimension", "threads"))
    across, down = len(set(spreads)), len(set(counts))
    figure, axes = plt.subplots(down, across, figsize=(6.2 * across, 4 * down), squeeze=False)
    peer = torch_of(next(iter(record["machine"]["peers"].values())))
    for limits, ax in zip(record["limits"], axes.flat):
        rows = [r for r in record["rows"] if all(r[key] == limits[key] for key in ("leading_dimension", "threads"))]
        for which, (text, colour, shape) in looks.items():
            mine = [r for r in rows if r["product"] == which]
            widths = [r["width"] for r in mine]
            look = {"marker": shape, "color": colour, "markersize": 5}
            ax.plot(widths, [r["ours_gflops"] for r in mine], **look, label=f"loraga {text}")
            look |= {"markerfacecolor": "none", "linestyle": "--", "label": f"{peer} {text}"}
            ax.plot(widths, [r["peer_gflops"] for r in mine], **look)
        ax.plot(widths, [r["floor_gflops"] for r in mine], color="black", label="floor: peak and memory")
        ax.axhline(limits["square_gflops"], color="#009E73", linestyle=":", label="loraga, 2048³")
        ax.set(xscale="log", xlabel="columns of B", ylabel="GF/s", ylim=(0, 1.05 * limits["peak_gflops"]), xticks=widths,
               title=f"threads: {limits['threads']}; columns of A {limits['leading_dimension']} numbers apart")
        ax.set_xticklabels(map(str, widths))
        ax.minorticks_off()
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(f"A 4096 x 4096 column-major, single precision. {title_of(record['machine'])}")
    figure.tight_layout()
    figure.savefig(path)
