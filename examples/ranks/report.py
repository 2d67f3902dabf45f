#!/usr/bin/env python3
"""Compares OUT/ranks-N.json of several N: report.py OUT N... prints a table, and writes what ranks.gp draws.

Fails if a loss differs by more than TOLERANCE from that of the smallest N.
"""
import json
import sys

# Relative differences of losses that are rounding. Where a start is measured by incremental estimates (the language
# model's lora-ga), joining those of several ranks truncates: that is no rounding, and has a bound of its own.
TOLERANCE = {"rounding": 1e-5, "incremental": 1e-2}


def bound(run):
    incremental = run["example"] == "language" and run["method"].startswith(("lora-ga", "lora-one", "+ga"))
    return "incremental" if incremental else "rounding"


def losses(run):
    return run["losses"] + run["train_losses"] + [run["loss"]]


def difference(run, first):
    ours, theirs = losses(run), losses(first)
    if len(ours) != len(theirs):
        sys.exit(f"report.py: {run['example']} {run['method']}: {len(ours)} losses, expected {len(theirs)}")
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))


def main(out, sizes):
    files = {n: json.load(open(f"{out}/ranks-{n}.json")) for n in sizes}
    tables, curves, wrong = [], [], []
    head = f"{'example':9} {'method':12} {'ranks':>5} {'loss':>9} {'differs':>9} {'start s':>8} {'training s':>10} " \
           f"{'speed-up':>8} {'MB sent: start':>14} {'training':>9} {'messages':>8}"
    print("\n" + head)
    for i, first in enumerate(files[sizes[0]]["runs"]):
        for n in sizes:
            run = files[n]["runs"][i]
            if (run["example"], run["method"], run["seed"]) != (first["example"], first["method"], first["seed"]):
                sys.exit(f"report.py: {out}/ranks-{n}.json is of other runs than {out}/ranks-{sizes[0]}.json")
            off = difference(run, first)
            seconds = lambda r: r["seconds"]["start"] + r["seconds"]["training"]
            speed_up = seconds(first) / seconds(run)
            sent = run["bytes_sent"]
            print(f"{run['example']:9} {run['method']:12} {n:5} {run['loss']:9.5f} {off:9.1e} "
                  f"{run['seconds']['start']:8.2f} {run['seconds']['training']:10.2f} {speed_up:8.2f} "
                  f"{sent['start'] / 1e6:14.2f} {sent['training'] / 1e6:9.2f} {sum(run['messages'].values()):8}")
            if not off <= TOLERANCE[bound(run)]:
                wrong.append(f"{run['example']} {run['method']} on {n} ranks: a loss differs by {off:.1e}, expected at "
                             f"most {TOLERANCE[bound(run)]:.0e}")
            tables.append(f"{run['example']},{run['method']},{n},{speed_up:.6g}")
            curves += [f"{run['example']},{run['method']},{n},{step + 1},{loss:.9g}"
                       for step, loss in enumerate(run["train_losses"])]
    print("differs: the largest relative difference of any loss from that of one rank; expected at most "
          f"{TOLERANCE['rounding']:.0e}, for starts from incremental estimates {TOLERANCE['incremental']:.0e}. "
          "MB sent are each rank's.")
    with open(f"{out}/ranks.csv", "w") as f:
        f.write("example,method,ranks,step,loss\n" + "\n".join(curves) + "\n")
    with open(f"{out}/scaling.csv", "w") as f:
        f.write("example,method,ranks,speed-up\n" + "\n".join(tables) + "\n")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main(sys.argv[1], [int(n) for n in sys.argv[2:]])
