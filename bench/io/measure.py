"""Writing safetensors against cp, and what opening a large file costs; both sides in turn."""
import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

arguments = argparse.ArgumentParser()
arguments.add_argument("--program", required=True)
arguments.add_argument("--work", type=Path, required=True)
arguments.add_argument("--result", type=Path, required=True)
arguments.add_argument("--rounds", type=int, default=10)
arguments.add_argument("--bytes", type=int, default=1 << 30)
options = arguments.parse_args()
options.work.mkdir(parents=True, exist_ok=True)
ours, copy, source, large = (str(options.work / n) for n in ("ours", "copy", "source", "large"))


def clear(path):
    """The disk is quiet, and its blocks are free: fresh ones are slow on some machines, for whoever comes first."""
    Path(path).unlink(missing_ok=True)
    os.sync()


def write():
    clear(ours)
    return float(subprocess.run([options.program, "write", ours, str(options.bytes)], check=True, capture_output=True).stdout)


def copy_file():
    clear(copy)
    begin = time.perf_counter()
    subprocess.run(["cp", source, copy], check=True)
    subprocess.run(["sync", copy], check=True)  # ours is on disk as well when its time ends
    return time.perf_counter() - begin


subprocess.run([options.program, "write", source, str(options.bytes)], check=True, capture_output=True)
rows = []
for i in range(options.rounds + 2):
    sides = [write, copy_file] if i % 2 else [copy_file, write]  # each is first in turn
    seconds = {side: side() for side in sides}
    print(f"round {i} of {options.rounds + 1}: ours {seconds[write]:.2f} s, cp and sync {seconds[copy_file]:.2f} s"
          + (" (warming up)" if i < 2 else ""), flush=True)
    if i >= 2:
        rows.append((seconds[write], seconds[copy_file]))
mine, theirs = (statistics.median(column) for column in zip(*rows))
opened = subprocess.run([options.program, "open", large, str(10 * 10**9)], check=True, capture_output=True, text=True).stdout.split()
record = {
    "command": "bash bench/run.sh io",
    "date": time.strftime("%Y-%m-%d"),
    "cpu": next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown"),
    "cores": os.cpu_count(),
    "write": {"bytes": os.path.getsize(ours), "rounds": options.rounds, "ours_s": round(mine, 3), "cp_and_sync_s": round(theirs, 3),
              "ratio": round(theirs / mine, 2), "all": [[round(x, 3) for x in r] for r in rows]},
    "open": {"bytes": os.path.getsize(large), "seconds": float(opened[0]), "peak_memory_bytes": int(opened[1])},
}
for path in (ours, copy, source, large):
    Path(path).unlink(missing_ok=True)
options.result.write_text(json.dumps(record, indent=1) + "\n")
print(json.dumps({k: v for k, v in record.items() if k != "command"}, indent=1))
