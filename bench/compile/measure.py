"""Measures what the headers cost to compile, as ratios to #include <Eigen/Core> in the same run (docs/performance.md has the
budgets): every header alone, a user's whole training file (the README's program) and other ways in (routes.py), with g++
-O2; the CUDA roof with nvcc, where there is one. CPU seconds, medians of interleaved runs. Ends with status 1 if a budget is missed."""
import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from routes import routes

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMPILER = ["g++", "-std=c++20", "-O2", "-I", os.path.join(ROOT, "include"), "-isystem", "/usr/include/eigen3", "-c", "-o",
            "/dev/null"]
NVCC = ["nvcc", "-x", "cu", "-std=c++20", "-O2", "-arch=sm_80", "-I", os.path.join(ROOT, "include"), "-c", "-o", "/dev/null"]
WING = ("loraga/backend/", "loraga/svd/eigen.hpp", "loraga/io/")  # what it costs is Eigen's, or nlohmann-json's and std::regex's


def headers():
    base = os.path.join(ROOT, "include")
    for folder, _, files in os.walk(os.path.join(base, "loraga")):
        for name in files:
            if name.endswith(".hpp") and name != "mpi.hpp" and os.path.basename(folder) not in ("torch", "ggml"):
                yield os.path.relpath(os.path.join(folder, name), base)  # those left out are routes, or need MPI


def seconds(path, work, flags=()):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run((NVCC if path.endswith(".cu") else COMPILER) + ["-I", work, *flags, path], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--result", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["bash", os.path.join(ROOT, "tests/docs/extract.sh"), work, os.path.join(ROOT, "README.md")], check=True)
        program = os.path.join(ROOT, "tests/docs/readme_main.cpp")
        cases = {"README program": (program, 13.0, []),
                 "README program, loraga::cpu_compiled": (program, 7.0, ["-DLORAGA_CPU_COMPILED"])}
        for name, (path, flags) in routes(work).items():
            cases[name] = (path, None, flags)
        for header in ["Eigen/Core"] + sorted(headers()):
            path = os.path.join(work, header.replace("/", "_") + ".cpp")
            with open(path, "w") as out:
                out.write(f"#include <{header}>\n")
            budget = 1.7 if header == "loraga/cpu.hpp" else None if header.startswith(WING) or header == "Eigen/Core" else 1.0
            cases[header] = (path, budget, [])
        if shutil.which("nvcc"):
            path = os.path.join(work, "cuda.cu")
            with open(path, "w") as out:
                out.write("#include <loraga/cuda.cuh>\n")
            cases["loraga/cuda.cuh (nvcc)"] = (path, 10.0, [])
        times = {name: [] for name in cases}
        for repeat in range(args.repeats):
            for name, (path, _, flags) in cases.items():
                times[name].append(seconds(path, work, flags))
            print(f"round {repeat + 1} of {args.repeats}", flush=True)
    unit = statistics.median(times["Eigen/Core"])
    rows = []
    for name, (_, budget, _) in cases.items():
        spent = statistics.median(times[name])
        rows.append({"name": name, "seconds": round(spent, 3), "ratio": round(spent / unit, 3), "budget": budget})
    rows.sort(key=lambda row: -row["seconds"])
    for row in rows:
        over = row["budget"] is not None and row["ratio"] > row["budget"]
        print(f"{row['name']:<52}{row['seconds']:>8.2f} s{row['ratio']:>8.2f}x  {'of ' + str(row['budget']) if row['budget'] else ''}"
              f"{'  OVER' if over else ''}")
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    with open("/proc/cpuinfo") as info:
        cpu = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), "unknown")
    with open(args.result, "w") as out:
        json.dump({"command": "bash bench/run.sh compile", "compiler": compiler, "flags": "-std=c++20 -O2", "cpu": cpu,
                   "rounds": args.repeats, "date": time.strftime("%Y-%m-%d"), "rows": rows}, out, indent=1)
        out.write("\n")
    if any(row["budget"] is not None and row["ratio"] > row["budget"] for row in rows):
        sys.exit("a compile budget is missed")


if __name__ == "__main__":
    main()
