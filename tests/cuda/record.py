"""record.py RESULT PART EXIT_CODE SECONDS WORK: adds one part of a recorded GPU run to the result file."""
import csv
import datetime
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as xml


def command(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def machine():
    name, driver = command("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader").split("\n")[0].split(", ")
    release = re.search(r"release ([\d.]+)", command("nvcc", "--version"))
    return {"gpu": name, "driver": driver, "cuda": release.group(1) if release else "unknown"}


def sources():
    """What was run, as one hash: parts of different sources are not put together."""
    files = sorted(p for folder in ("include", "tests", "examples") for p in pathlib.Path(folder).rglob("*") if p.is_file())
    whole = hashlib.sha256()
    for path in files:
        whole.update(str(path).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:16]


def test_counts(work):
    suites = xml.parse(work / "tests.xml").getroot().iter("testsuite")
    counts = {"assertions": 0, "failures": 0, "errors": 0, "cases": 0}
    for suite in suites:
        counts["assertions"] += int(suite.get("tests", 0))
        counts["failures"] += int(suite.get("failures", 0))
        counts["errors"] += int(suite.get("errors", 0))
        counts["cases"] += len({(c.get("classname"), c.get("name").split("/")[0]) for c in suite.iter("testcase")})
    return counts


def sanitizer_summary(work, tool):
    lines = [l.strip("= \n") for l in (work / f"{tool}.log").read_text(errors="replace").splitlines()]
    return {"summary": [l for l in lines if "SUMMARY" in l]}


def final_losses(folder):
    with open(folder / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    last = max(int(r["step"]) for r in rows)
    losses = {}
    for r in rows:
        if int(r["step"]) == last:
            losses.setdefault(r["method"], []).append(float(r["loss"]))
    return losses


def job_comparison(work):
    cpu, cuda = final_losses(work / "cpu"), final_losses(work / "cuda")
    mean = lambda v: sum(v) / len(v)
    return {
        method: {
            "cpu": cpu[method],
            "cuda": cuda[method],
            "difference_of_means": mean(cuda[method]) - mean(cpu[method]),
            "spread_of_seeds": max(cpu[method]) - min(cpu[method]),
        }
        for method in cpu
    }


def main():
    result, part, code, seconds, work = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), pathlib.Path(sys.argv[5])
    old = json.loads(result.read_text()) if result.exists() else {}
    fresh = {"command": "bash tests/run.sh --cuda --record", "machine": machine(), "sources": sources()}
    record = old if all(old.get(key) == value for key, value in fresh.items()) else fresh
    entry = {"exit_code": code, "seconds": seconds, "date": datetime.date.today().isoformat()}
    try:
        if part == "tests":
            entry.update(test_counts(work))
        elif part == "job":
            entry["final_losses"] = job_comparison(work)
        elif part.endswith("check"):
            entry.update(sanitizer_summary(work, part))
    except (OSError, xml.ParseError, KeyError, ValueError) as failure:
        entry["incomplete"] = str(failure)
    record.setdefault("parts", {})[part] = entry
    result.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
