"""rehearsal.py BUILD WORK: called by rehearse.sh. Runs run.sh as a GPU's user would, and checks what it wrote."""
import os
import shutil
import stat
import subprocess
import sys
import time

import catch_runs
import kit
import store

HERE = os.path.dirname(os.path.abspath(__file__))
STANDINS = {
    "nvidia-smi": """#!/bin/sh
case "$*" in *query-gpu*) echo "none (a rehearsal), 0.0, 0 MiB, 0 MHz, 0 MHz" ;; *) echo "CUDA Version: 0.0" ;; esac
""",
    # runs the program and reports no errors, as a checker would; the last file it is given is not clean
    "compute-sanitizer": """#!/bin/sh
[ "$1" = --help ] && { echo --track-stream-ordered-races; exit; }
while [ $# -gt 0 ]; do case "$1" in --log-file) log=$2; shift 2 ;; --tool|--leak-check|--report-api-errors|--error-exitcode|--track-stream-ordered-races) shift 2 ;; *) break ;; esac; done
SPOIL_HANG= "$@"; code=$?
case "$log" in *adamw*) echo "========= Invalid read"; echo "========= ERROR SUMMARY: 1 error" ;; *) echo "========= ERROR SUMMARY: 0 errors" ;; esac > "$log"
exit $code
""",
    "ncu": """#!/bin/sh
echo '"ID","Kernel Name","gpu__time_duration.sum","dram__bytes.sum"'
echo '"","","ns","byte"'
echo '"0","a kernel","1,000","2"'
""",
    # crashes in one test and hangs in another; the double's own tests are not among them, as on a GPU
    "unit_cuda": """#!/bin/sh
case "$*" in *--list*) "$UNIT" "$@" | grep -v /device_double/; exit ;; esac
"$UNIT" "$@"
code=$?
for word; do [ "$before" = -o ] && report=$word; before=$word; done
exec python3 "$SPOIL" "$report" $code
""",
}
SPOIL = r'''
import os, re, signal, sys, time
path, code = sys.argv[1], int(sys.argv[2])
text = open(path).read()
cases = [m for m in re.finditer(r'<TestCase name="([^"]*)"', text)]
for m in cases:
    if m.group(1) == os.environ["SPOIL_CRASH"]:
        open(path, "w").write(text[:m.end()] + ">")
        os.kill(os.getpid(), signal.SIGSEGV)
    if m.group(1) == os.environ["SPOIL_HANG"]:
        open(path, "w").write(text[:m.end()] + ">")
        time.sleep(600)
sys.exit(code)
'''


def write_program(path, text):
    with open(path, "w", encoding="utf8") as file:
        file.write(text)
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def seconds_of_all(unit, work):
    """How long the tests take here and now, one after another: how long a rehearsal waits for one that hangs follows from it."""
    tests = [t for t in catch_runs.listed(unit) if not t.file.startswith("device_double/")]
    entries, outcome = catch_runs.run_group(unit, tests, "all", work, 1800)
    expect("how the tests end without a planted fault", {e["status"] for e in entries.values()}, {"passed"})
    return outcome.seconds


def make_kit(build, work, patience):
    folder = os.path.join(work, "kit")
    os.makedirs(os.path.join(folder, "bin"))
    for name in ("nvidia-smi", "compute-sanitizer", "ncu"):
        write_program(os.path.join(folder, "bin", name), STANDINS[name])
    write_program(os.path.join(folder, "unit_cuda"), STANDINS["unit_cuda"])
    write_program(os.path.join(folder, "spoil.py"), SPOIL)
    write_program(os.path.join(folder, "cuda_loop"), "#!/bin/sh\nexec test -d $1\n")  # on the double it has a test of its own
    os.symlink(os.path.abspath(os.path.join(build, "bench/cuda/perf_double")), os.path.join(folder, "perf"))
    os.makedirs(os.path.join(folder, "data"))
    os.symlink(os.path.abspath(os.path.join(HERE, "../../tests")), os.path.join(folder, "data", "tests"))
    facts = {**kit.facts(), "rehearsal": True, "patience": patience}
    store.write(os.path.join(folder, "kit.json"), facts)
    return folder


def run(folder, out, unit, crash, hang, *more):
    environment = {**os.environ, "PATH": os.path.join(folder, "bin") + ":" + os.environ["PATH"], "UNIT": os.path.abspath(unit),
                   "SPOIL": os.path.join(folder, "spoil.py"), "SPOIL_CRASH": crash, "SPOIL_HANG": hang}
    began = time.monotonic()
    code = subprocess.run(["bash", os.path.join(HERE, "run.sh"), "--kit", folder, "--out", out, "--scale", "200", *more],
                          env=environment, check=False).returncode
    return code, time.monotonic() - began


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"rehearsal: {what} is {found!r}, expected {wanted!r}")


def main():
    build, work = sys.argv[1], os.path.abspath(sys.argv[2])
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    unit = os.path.join(build, "tests/device_double/unit_double")
    whole = seconds_of_all(unit, work)
    folder, out = make_kit(build, work, max(0.08, whole / 60)), os.path.join(work, "out")
    budget = str(round(max(100, 14 * whole)))  # a GPU's is 540: there the tests take seconds
    names = subprocess.run([unit, "--list-test-names-only", "[optim]"], capture_output=True, text=True, check=False).stdout.splitlines()
    crash, hang = names[0].strip(), names[-1].strip()
    code, first = run(folder, out, unit, crash, hang, "--budget", budget)
    tests, speed = store.read(os.path.join(out, store.TESTS)), store.read(os.path.join(out, store.SPEED))
    cases = tests["tests"]["cases"]
    expect("the exit code of a run with planted faults", code, 1)
    expect("the crashed test", cases[crash]["status"], "crashed")
    expect("the hanging test", cases[hang]["status"], "timed out")
    expect("how all other tests ended", {e["status"] for n, e in cases.items() if n not in (crash, hang)}, {"passed"})
    expect("the sections", {n: s["status"] for n, s in speed["perf"]["sections"].items()},
           dict.fromkeys(speed["perf"]["sections"], "passed"))
    expect("the file with a memory error", tests["memcheck"]["files"]["optim/adamw.cpp"]["status"], "errors")
    expect("the profiles", {s["status"] for s in speed["ncu"].values()}, {"passed"})

    code, second = run(folder, os.path.join(work, "again"), unit, "", "", "--after", out, "--budget", budget, "--parts", "tests", "loop", "perf")
    tests = store.read(os.path.join(work, "again", store.TESTS))
    expect("the exit code after the repair", code, 0)
    expect("how all tests ended after it", {e["status"] for e in tests["tests"]["cases"].values()}, {"passed"})
    expect("what came back", sorted(os.listdir(out)), ["cuda-tests.json", "cuda.json", "logs.tar.gz"])
    refused = subprocess.run([sys.executable, os.path.join(HERE, "report.py"), out, work], capture_output=True, text=True, check=False)
    expect("the report of a rehearsal", refused.stdout.strip().splitlines()[-1], "a rehearsal: nothing is recorded")
    print("seconds per part: " + ", ".join(f"{n} {s}" for n, s in store.read(os.path.join(out, store.TESTS))["seconds"].items()))
    print(f"rehearsed: {first:.0f} s, and {second:.0f} s to resume, where all tests take {whole:.0f} s one after another")


if __name__ == "__main__":
    main()
