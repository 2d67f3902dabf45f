"""Runs Catch2 tests in groups, and finds out for every test how it ended, whatever happens to the process."""
import contextlib
import dataclasses
import os
import re
import subprocess
import xml.etree.ElementTree as xml

import jobs


@dataclasses.dataclass(frozen=True)
class Test:
    name: str
    file: str  # below tests/


def listed(program, spec="", env=None):
    """The tests that a specification selects. (A program asked for names exits with their number.)"""
    words = [program, "--list-test-names-only", "-v", "high"] + ([spec] if spec else [])
    try:
        found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(env or {})})
    except (OSError, subprocess.TimeoutExpired):
        return []
    tests = []
    for line in found.stdout.splitlines():
        match = re.fullmatch(r"\"?(.*?)\"?\t@(.*?)[:(](\d+)\)?", line.rstrip())
        if match:
            tests.append(Test(match.group(1), re.sub(r"^(.*/)?tests/", "", match.group(2))))
    return tests


def specification(tests):
    """The argument that selects just these."""
    return ",".join(re.sub(r'([\\,\[\]"~*])', r"\\\1", t.name) for t in tests)


def read_report(path):
    """{name: (status, seconds, detail)} of a report that may end anywhere; status None: it began and never ended."""
    found, name, fatal, detail = {}, None, False, ""
    parser = xml.XMLPullParser(["start", "end"])
    try:
        with open(path, "rb") as file:
            parser.feed(file.read())
    except (OSError, xml.ParseError):
        pass
    try:
        for event, node in parser.read_events():
            if event == "start" and node.tag == "TestCase":
                name, fatal, detail = node.get("name"), False, ""
                found[name] = (None, 0.0, "")
            elif event == "end" and node.tag == "FatalErrorCondition":
                fatal, detail = True, (node.text or "").strip()
            elif event == "end" and node.tag in ("Expression", "Exception", "Failure") and not detail:
                if node.tag != "Expression" or node.get("success") == "false":
                    said = [(node.text or "")] + [(child.text or "") for child in node]
                    detail = re.sub(r"\s+", " ", f"{os.path.basename(node.get('filename', ''))}:{node.get('line')} " + " ".join(said)).strip()
            elif event == "end" and node.tag == "OverallResult":
                passed = node.get("success") == "true"
                seconds = float(node.get("durationInSeconds", 0))
                found[name] = ("passed" if passed else "crashed" if fatal else "failed", seconds, "" if passed else detail[:400])
    except xml.ParseError:
        pass
    return found


def run_group(program, tests, name, work, seconds, env=None, before=()):
    """Runs tests in one process. Returns ({test: entry}, outcome); tests that it did not come to are "not run".

    before: words in front of the program, such as a checker's."""
    stem = os.path.join(work, re.sub(r"\W+", "-", name).strip("-")[:80])
    with contextlib.suppress(OSError):
        os.remove(stem + ".xml")  # an earlier run's would be taken for this one's
    words = [*before, program, "-r", "xml", "-d", "yes", "-o", stem + ".xml", specification(tests)]
    outcome = jobs.run(words, stem + ".log", seconds, env)
    report = read_report(stem + ".xml")
    entries = {}
    for t in tests:
        status, took, detail = report.get(t.name, ("not run", 0.0, ""))
        if status is None:
            status = "timed out" if outcome.timed_out else "crashed"
            detail = outcome.ending()
        entries[t.name] = {"status": status, "seconds": round(took, 3), "file": t.file, **({"detail": detail} if detail else {})}
    return entries, outcome


def by_file(tests):
    groups = {}
    for t in tests:
        groups.setdefault(t.file, []).append(t)
    return groups
