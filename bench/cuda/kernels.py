"""kernels.py BUILD RESULTS: what ptxas said of the kernels compiled in BUILD, as RESULTS/cuda-kernels.json, and a summary.

Of every kernel of the library that a program of the kit has: registers, stack, spills and shared memory. Kernels that tests
and benchmarks wrote for themselves are left out, and those of CUDA's own libraries are counted only."""
import json
import os
import pathlib
import re
import subprocess
import sys

import kit

NAME = "cuda-kernels.json"
COMMAND = "bash bench/cuda/prepare.sh"
FIELDS = ("registers", "stack_bytes", "spill_store_bytes", "spill_load_bytes", "shared_bytes")


def read(text):
    """{(mangled name, architecture): {field: number}} of a log of ptxas -v."""
    found, entry, properties = {}, None, False
    for line in text.splitlines():
        if start := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            entry, properties = found.setdefault(start.groups(), dict.fromkeys(FIELDS, 0)), False
        elif of := re.search(r"Function properties for (\w+)", line):
            properties = entry is not None and of.group(1) == list(found)[-1][0]  # not of a function that it calls
        elif properties and (memory := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            entry.update(zip(FIELDS[1:4], map(int, memory.groups())))
        elif entry is not None and (used := re.search(r"Used (\d+) registers", line)):
            entry["registers"] = int(used.group(1))
            if shared := re.search(r"(\d+) bytes smem", line):
                entry["shared_bytes"] = int(shared.group(1))
            entry = None
    return found


def demangled(names):
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return dict(zip(names, plain.splitlines()))


def inside(text, opening):
    """What stands between `opening`, which ends in a bracket, and the bracket that closes it; empty if it is not there."""
    start = text.find(opening)
    if start < 0:
        return ""
    start += len(opening)
    depth = 1
    for i in range(start, len(text)):
        depth += {"<": 1, ">": -1}.get(text[i], 0)
        if depth == 0:
            return text[start:i].strip()
    return ""


def readable(name):
    """The functor that a launch runs, as one writes it; empty where it is not the library's."""
    task = inside(name, "loraga::gpu::on_grid<")
    large = "::run_large<" in name
    if not task and large:
        task = inside(name, "::run_large<")
    if not task:
        task = name.partition("(")[0].removeprefix("void ") if "loraga::" in name.partition("(")[0] else ""
    if not task.startswith("loraga::") or re.search(r"\(anonymous namespace\)|\b(perf|test)::", task):
        return ""
    for pattern, short in ((r"loraga::(detail|gpu)::|loraga::", ""), (r", device_space\b", ""), (r"\(([\w ]+)\)(\d+)", r"\2"), (r" >", ">")):
        task = re.sub(pattern, short, task)
    return task + (" [large]" if large else "")


def collected(logs):
    """(rows with the most of each field where several files have one kernel, architectures, kernels of others)."""
    raw = {}
    for log in logs:
        for key, numbers in read(log).items():
            raw[key] = {f: max(numbers[f], raw.get(key, numbers)[f]) for f in FIELDS}
    plain = demangled(sorted({name for name, _ in raw}))
    rows, others = {}, set()
    for (name, _), numbers in raw.items():
        if short := readable(plain[name]):
            rows[short] = {f: max(numbers[f], rows.get(short, numbers)[f]) for f in FIELDS}
        else:
            others.add(name)
    ordered = sorted(rows.items(), key=lambda r: (-r[1]["registers"], r[0]))
    return [{"kernel": k, **v} for k, v in ordered], sorted({a for _, a in raw}), len(others)


def summary(rows, others):
    most = {f"most_{f}": max((r[f] for r in rows), default=0) for f in FIELDS}
    return {"kernels": len(rows), **most, "with_stack": sum(r["stack_bytes"] > 0 for r in rows),
            "spilling": sum(r["spill_store_bytes"] + r["spill_load_bytes"] > 0 for r in rows), "not_of_the_library": others}


def written(record):
    """JSON with a line per kernel, zeros left out."""
    head = json.dumps({k: v for k, v in record.items() if k != "kernels"}, indent=1)
    rows = [json.dumps({k: v for k, v in r.items() if v != 0}) for r in record["kernels"]]
    return head[:-2] + ',\n "kernels": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"


def main():
    build, results = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    files = [p for p in sorted(build.rglob("*.ptxas")) if p.with_suffix("").exists()]
    rows, architectures, others = collected([p.read_text(encoding="utf8") for p in files])
    if not rows:
        sys.exit(f"{build} holds no log of ptxas with a kernel of the library")
    short = summary(rows, others)
    results.mkdir(parents=True, exist_ok=True)
    (results / NAME).write_text(written({"command": COMMAND, "architectures": architectures, **kit.facts()["build"], "summary": short,
                                         "kernels": rows}), encoding="utf8")
    print(f"{os.path.relpath(results / NAME)}: {short['kernels']} kernels for {' '.join(architectures)}, at most {short['most_registers']} "
          f"registers and {short['most_stack_bytes']} bytes of stack, {short['spilling']} spill")
    for r in (r for r in rows if r["spill_store_bytes"] + r["spill_load_bytes"] > 0):
        print(f"   spills {r['spill_store_bytes']} and {r['spill_load_bytes']} bytes, {r['registers']} registers: {r['kernel'][:140]}")


if __name__ == "__main__":
    main()
