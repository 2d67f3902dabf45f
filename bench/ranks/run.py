"""bench/results/ranks.json: what estimates of many ranks send, take and lose, against formulas and against all-reducing gradients.

Parts: `traffic` (bytes against formula, and against the machine's own count), `loss`, `scaling`, `plan` (loraga_plan's predictions
against what was measured here). Each leaves its part in --work and is not run again.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "evidence"))
import files

options = None
KINDS = ("dense", "incremental", "streamed")
# Open MPI: root may run it, more ranks than cores are meant; messages go through the loop-back network, whose bytes the kernel counts.
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
       "OMPI_MCA_hwloc_base_binding_policy": "none"}


def on_ranks(ranks, *arguments, wire=False):
    environment = {**os.environ, **MPI, **({"OMPI_MCA_btl": "self,tcp"} if wire else {})}
    done = subprocess.run(["mpirun", "-n", str(ranks), options.estimate, *map(str, arguments)], env=environment, check=True,
                          stdout=subprocess.PIPE, text=True, timeout=900)
    return json.loads(done.stdout)


def width(out, into, rank):
    return min(4 * rank, out, into)


def sketch(out, into, rank):
    w = width(out, into, rank)
    return min(w + max(8, w // 4), out, into)


def formula_bytes(kind, ranks, out, into, layers, rank, batches):
    """Bytes that one rank sends for an estimate: docs/ranks.md. The streamed one looks twice in its first micro-batch."""
    share = 2 * (1 - 1 / ranks) * 4 * layers
    if kind == "dense":
        return share * out * into
    if kind == "incremental":
        return share * width(out, into, rank) * (out + into + 1)
    rounds = -(-batches // ranks)
    return share * (rounds + 1) * sketch(out, into, rank) * (out + into)


def traffic():
    rows = []
    for ranks in (2, 4):
        for out, into, layers in ((4096, 4096, 4), (11008, 4096, 4)):
            for kind in KINDS:
                batches = 2 * ranks
                r = on_ranks(ranks, kind, out, into, layers, 8, 64, batches, "falling", wire=True)
                part = r["feed"] if kind == "streamed" else r["combine"]
                dense = formula_bytes("dense", ranks, out, into, layers, 8, batches)
                rounds = batches // ranks + 1 if kind == "streamed" else 1
                rows.append({
                    "ranks": ranks, "out": out, "in": into, "layers": layers, "r": 8, "estimate": kind,
                    "messages": part["messages"], "meetings": part["meetings"],
                    "formula_bytes_per_layer": formula_bytes(kind, ranks, out, into, layers, 8, batches) / layers,
                    "counted_bytes_per_layer": part["sent"] / layers,
                    "wire_bytes_per_rank_and_layer": part["wire_all"] / ranks / layers,
                    "share_of_dense": round(part["wire_all"] / ranks / dense, 5),
                    "share_of_dense_per_exchange": round(part["wire_all"] / ranks / rounds / dense, 5),
                    "step_bytes": r["step"]["sent"], "start_bytes": r["start"]["sent"]})
                print(f"  {ranks} ranks, {out} x {into}, {kind}: {rows[-1]['share_of_dense_per_exchange']:.4f} of dense", flush=True)
    return rows


def loss():
    rows = []
    for spectrum in ("falling", "flat"):
        for ranks in (1, 2, 4, 8):
            for kind in KINDS:
                r = on_ranks(ranks, kind, 1024, 1024, 1, 8, 256, 16, spectrum, "judge")
                rows.append({"spectrum": spectrum, "ranks": ranks, "estimate": kind, "micro_batches": 16, "loss": max(r["loss"], 0)})
        for row in rows[-12:]:
            print(f"  {row['spectrum']}, {row['ranks']} ranks, {row['estimate']}: {row['loss']:.1e}", flush=True)
    return rows


SCALING = {"out": 2048, "in": 2048, "layers": 4, "r": 8, "tokens": 512, "batches": 16}


def scaling():
    s, rows = SCALING, []
    runs = {(ranks, kind): [] for ranks in (1, 2, 4) for kind in KINDS}
    for _ in range(5):  # in turn
        for (ranks, kind), list_of in runs.items():
            list_of.append(on_ranks(ranks, kind, s["out"], s["in"], s["layers"], s["r"], s["tokens"], s["batches"], "falling"))
    for (ranks, kind), list_of in runs.items():
        median = {part: statistics.median(r[part]["seconds"] for r in list_of) for part in ("feed", "combine", "start", "step")}
        rows.append({"ranks": ranks, "estimate": kind, **{f"{k}_seconds": v for k, v in median.items()},
                     "estimate_seconds": median["feed"] + median["combine"]})
    for row in rows:
        one = next(r for r in rows if r["ranks"] == 1 and r["estimate"] == row["estimate"])
        row["speed_up"] = round(one["estimate_seconds"] / row["estimate_seconds"], 2)
        print(f"  {row['ranks']} ranks, {row['estimate']}: {row['estimate_seconds']:.3f} s, {row['speed_up']} times one", flush=True)
    return {"settings": s, "rows": rows, "network": {str(n): on_ranks(n, "network") for n in (2, 4)}}


def predicted(ranks, rate, network):
    """What loraga_plan foretells of the scaling's settings. Ranks beyond the cores have `rate` of a core each."""
    s, out = SCALING, options.work / "plan-out.json"
    constants = options.machine
    arguments = [f"{s['out']}x{s['in']}*{s['layers']}", "--ranks", ranks, "--accumulators", *KINDS, "--rank", s["r"], "--tokens", s["tokens"],
                 "--batches", s["batches"], "--json", out, "--overwrite"]
    for name in ("flops", "thin_flops", "double_flops", "small_flops", "memory_bandwidth"):
        arguments += ["--" + name.replace("_", "-"), constants[name] * rate]
    arguments += ["--bandwidth", network["bandwidth"] or 1e12, "--latency", network["latency"]]
    subprocess.run([options.plan, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    return {p["accumulator"]: p for p in json.loads(out.read_text())["predictions"]}


def plan():
    """Predictions beside what scaling() measured. The planner's base model is nobody's here: its passes are taken off."""
    measured = json.loads((options.work / "scaling.json").read_text())
    out = options.work / "machine.json"
    subprocess.run([options.plan, "64x64", "--rank", "8", "--measure", "--threads", "1", "--json", str(out), "--overwrite"], check=True,
                   stdout=subprocess.DEVNULL)
    options.machine = json.loads(out.read_text())["machine"]
    rows = []
    for ranks in (1, 2, 4):
        foretold = predicted(ranks, min(1, os.cpu_count() / ranks), measured["network"].get(str(ranks), {"bandwidth": 1e12, "latency": 1e-7}))
        for row in (r for r in measured["rows"] if r["ranks"] == ranks):
            p = foretold[row["estimate"]]
            seconds = p["estimate"]["seconds"] - p["estimate"]["base_seconds"]
            rows.append({"ranks": ranks, "estimate": row["estimate"], "predicted_seconds": round(seconds, 4),
                         "measured_seconds": round(row["estimate_seconds"], 4), "ratio": round(seconds / row["estimate_seconds"], 3),
                         "predicted_start_seconds": round(p["start"]["seconds"], 4), "measured_start_seconds": round(row["start_seconds"], 4)})
            print("  {ranks} ranks, {estimate}: predicted {predicted_seconds} s, measured {measured_seconds} s, ratio {ratio}".format(**rows[-1]), flush=True)
    return {"machine": options.machine, "rows": rows, "within_25_percent": sum(abs(r["ratio"] - 1) <= 0.25 for r in rows), "of": len(rows)}


STAGES = {"traffic": traffic, "loss": loss, "scaling": scaling, "plan": plan}


def tables(record):
    """The record's tables, for docs/ranks.md."""
    lines = ["", "| 4 layers, r = 8 | ranks | bytes per rank and layer: formula | counted | on the wire | of all-reducing gradients | messages |",
             "|---|---|---|---|---|---|---|"]
    for r in record["traffic"]:
        each = " per micro-batch" if r["estimate"] == "streamed" else ""
        lines.append(f"| {r['out']} x {r['in']}, {r['estimate']} | {r['ranks']} | {r['formula_bytes_per_layer']:,.0f} | {r['counted_bytes_per_layer']:,.0f} | "
                     f"{r['wire_bytes_per_rank_and_layer']:,.0f} | {100 * r['share_of_dense_per_exchange']:.2f} %{each} | {r['messages']} |")
    lines += ["", "| loss, 1024 x 1024, r = 8, 16 micro-batches of 256 tokens | 1 rank | 2 | 4 | 8 |", "|---|---|---|---|---|"]
    for spectrum in ("falling", "flat"):
        for kind in ("incremental", "streamed"):
            found = [next(r["loss"] for r in record["loss"] if (r["spectrum"], r["estimate"], r["ranks"]) == (spectrum, kind, n)) for n in (1, 2, 4, 8)]
            lines.append(f"| {spectrum}, {kind} | " + " | ".join(f"{x:.1e}" for x in found) + " |")
    s = record["scaling"]["settings"]
    lines += ["", f"| {s['layers']} layers of {s['out']} x {s['in']}, {s['batches']} micro-batches of {s['tokens']} tokens | ranks | estimate, s | times one rank | foretold, s | start, s |",
              "|---|---|---|---|---|---|"]
    for row, p in zip(sorted(record["scaling"]["rows"], key=lambda r: (r["estimate"], r["ranks"])),
                      sorted(record["plan"]["rows"], key=lambda r: (r["estimate"], r["ranks"]))):
        lines.append(f"| {row['estimate']} | {row['ranks']} | {row['estimate_seconds']:.3f} | {row['speed_up']:.2f} | {p['predicted_seconds']:.3f} | {row['start_seconds']:.3f} |")
    return "\n".join(lines) + "\n\n"


def write_page(record, page):
    begin, end = "<!-- from ranks.json -->\n", "<!-- end of ranks.json -->\n"
    before, rest = page.read_text().split(begin)
    files.replace(page, before + begin + tables(record) + end + rest.split(end)[1])


def report():
    parts = {name: json.loads((options.work / f"{name}.json").read_text()) for name in STAGES}
    version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    record = {"setup": {"command": "bash bench/run.sh ranks", "date": time.strftime("%Y-%m-%d"), "commit": files.commit(),
                        "machine": files.machine("cpu"), "mpi": version, "threads_per_rank": 1}, **parts}
    path = options.results / "ranks.json"
    files.replace(path, files.json_lines(record))
    write_page(record, HERE.parent.parent / "docs/ranks.md")
    subprocess.run(["/usr/bin/python3", str(HERE / "picture.py"), str(path), str(path.with_suffix(".png"))], check=True)


def main():
    global options
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--estimate", required=True)
    parser.add_argument("--plan", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--again", nargs="*", choices=STAGES, default=[], help="stages to run once more")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name, stage in STAGES.items():
        path = options.work / f"{name}.json"
        if path.exists() and name not in options.again:
            continue
        print(f"== {name}", flush=True)
        files.replace(path, json.dumps(stage(), indent=1) + "\n")
    report()


if __name__ == "__main__":
    main()
