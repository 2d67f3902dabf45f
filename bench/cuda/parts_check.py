"""compute-sanitizer over the tests, and ncu over three jobs. Where a machine refuses them, that is what is recorded."""
import contextlib
import csv
import io
import os
import re
import shutil

import catch_runs
import jobs

# this library's own kernels first: what is left when time is over is mostly products
ORDER = ("linalg", "optim", "backend", "adapter", "gradient", "diagnostics", "init", "start", "svd")
OWN_KERNELS = ("linalg", "optim", "backend", "adapter")
# tests that make calls fail on purpose are right, so failed calls are no finding; what they leave would be
MEMCHECK = ("--tool", "memcheck", "--leak-check", "full", "--report-api-errors", "no")
TOOLS = {
    "memcheck": (MEMCHECK, None),
    "initcheck": (("--tool", "initcheck"), OWN_KERNELS),
    "races": ((*MEMCHECK, "--track-stream-ordered-races", "all"), OWN_KERNELS),
}


def rank_of(file):
    folder = file.split("/")[0]
    return ORDER.index(folder) if folder in ORDER else len(ORDER)


def check(kit, part, entry, clock, workers=4):
    """One tool over the tests of each file, in `entry`: clean, errors, timed out, crashed or not run; 4 files at a time.

    A file that was clean before is left alone. The example's models repeat the same kernels, so they are left out."""
    options, folders = TOOLS[part]
    program = shutil.which("compute-sanitizer")
    if not program:
        entry["unavailable"] = "compute-sanitizer was not found"
        return
    if part == "races" and "track-stream-ordered-races" not in jobs.answer(program, "--help"):
        entry["unavailable"] = "this compute-sanitizer has no --track-stream-ordered-races"
        return
    files = entry.setdefault("files", {})

    def task(name, tests):
        def run(left):
            log = os.path.join(kit.work, part + "-" + re.sub(r"\W+", "-", name) + ".sanitizer")
            with contextlib.suppress(OSError):
                os.remove(log)
            before = (program, *options, "--error-exitcode", "9", "--log-file", log)
            entries, outcome = catch_runs.run_group(kit.unit, tests, f"{part} {name}", kit.work, min(90 * kit.patience, left), kit.env, before)
            return name, verdict(log, entries, outcome)
        return run

    groups = catch_runs.by_file(catch_runs.listed(kit.unit, "~[examples]~[.]", kit.env))
    names = [n for n in sorted(groups, key=lambda n: (rank_of(n), n))
             if (folders is None or n.split("/")[0] in folders) and files.get(n, {}).get("status") != "clean"]
    if not names:
        return
    first = task(names[0], groups[names[0]])(clock.left())  # alone: it tells whether the tool works here
    files[first[0]] = first[1]
    if first[1]["status"] == "refused":
        entry["unavailable"] = first[1]["said"]
        del entry["files"]
        return
    for done in jobs.run_many([task(n, groups[n]) for n in names[1:]], workers, clock):
        name, found = done.result()
        files[name] = found


def verdict(log, entries, outcome):
    text = jobs.Outcome(0, 0, log=log).text()
    summary = re.findall(r"ERROR SUMMARY: (\d+) error", text)
    statuses = [e["status"] for e in entries.values()]
    found = {"seconds": round(outcome.seconds, 1), "tests": {s: statuses.count(s) for s in dict.fromkeys(statuses)}}
    if outcome.timed_out:
        return {**found, "status": "timed out" if outcome.seconds > 0 else "not run"}
    if not summary:
        said = re.sub(r"\s+", " ", text.strip() or outcome.ending())[:300]
        return {**found, "status": "refused", "said": said}
    errors = int(summary[-1])
    if errors == 0:
        return {**found, "status": "clean" if set(statuses) == {"passed"} else "failed"}
    lines = [line.lstrip("= ") for line in text.splitlines() if line.strip("= ")]
    return {**found, "status": "errors", "errors": errors, "said": lines[:12]}


METRICS = {
    "gpu__time_duration.sum": "time",
    "dram__bytes.sum": "dram_bytes",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "dram_percent",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "sm_percent",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy_percent",
    "launch__registers_per_thread": "registers",
}


def profile(kit, section, clock):
    """Every kernel of one profiled section: its time, traffic, occupancy and registers. Clocks stay as they are."""
    program = shutil.which("ncu")
    if not program:
        return {"status": "unavailable", "said": "ncu was not found"}
    log = os.path.join(kit.work, f"ncu-{section}.csv")
    words = [program, "--clock-control", "none", "--profile-from-start", "off", "--launch-count", "60", "--csv", "--page", "raw",
             "--print-units", "base", "--metrics", ",".join(METRICS), kit.perf, section, "--profiled", *kit.scale]
    outcome = jobs.run(words, log, min(60, clock.left()), kit.env)
    text = outcome.text()
    start = text.find('"ID"')
    if start < 0:
        return {"status": "timed out" if outcome.timed_out else "unavailable", "said": outcome.ending()}
    rows = list(csv.DictReader(io.StringIO(text[start:])))
    kernels = [{"kernel": row["Kernel Name"][:160], **{short: number(row.get(long)) for long, short in METRICS.items()}}
               for row in rows if row.get("ID", "").strip().isdigit()]
    return {"status": "passed", "units": "ns, bytes, per cent", "kernels": kernels}


def number(text):
    try:
        return float((text or "").replace(",", ""))
    except ValueError:
        return None
