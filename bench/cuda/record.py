"""The record of a GPU: tests, speed, what users would run instead, checkers, profiles, within one budget of time.

Most telling first, each part in processes of its own with a timeout; after each part the result is in the output folder.
A second run into the same folder, or with --after FOLDER, leaves out what is there and passed."""
import argparse
import json
import os
import shutil
import sys
import tarfile
import tempfile

import baseline
import jobs
import machine
import parts_check
import parts_job
import parts_tests
import store

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ("tests", "loop", "perf", "baseline", "memcheck", "initcheck", "races", "ncu", "job")
SHARE = {"tests": 0.38, "perf": 0.5, "baseline": 0.5, "memcheck": 0.6, "initcheck": 0.5, "races": 0.6, "ncu": 1.0}  # of what is left


class Kit:
    """The programs, unpacked where they can run."""

    def __init__(self, folder, work, scale):
        self.facts = store.read(os.path.join(folder, "kit.json"))
        if not self.facts:
            sys.exit(f"{folder} is no kit: bash bench/cuda/prepare.sh makes one")
        self.work = work
        self.programs = folder
        archive = os.path.join(folder, "programs.tar.xz")
        if os.path.exists(archive):
            self.programs = os.path.join(work, "programs")
            with tarfile.open(archive) as file:
                file.extractall(self.programs, filter="data") if hasattr(tarfile, "data_filter") else file.extractall(self.programs)
        self.unit, self.perf, self.loop = (os.path.join(self.programs, n) for n in ("unit_cuda", "perf", "cuda_loop"))
        self.env = {"LD_LIBRARY_PATH": machine.library_path(), "LORAGA_TEST_DATA": os.path.join(self.programs, "data", "tests"),
                    "PYTHONDONTWRITEBYTECODE": "1", **self.facts.get("environment", {})}
        self.patience = self.facts.get("patience", 1)  # a rehearsal does not wait long for what hangs
        self.scale = ["--scale", str(scale)] if scale > 1 else []


def speak(text):
    print(text, flush=True)


def do_tests(kit, record, clock):
    part = record.tests.setdefault("tests", {})
    cases = part.setdefault("cases", {})
    # passed ones are kept; all others get another chance
    for name in [n for n, e in cases.items() if e["status"] != "passed"]:
        del cases[name]
    parts_tests.gate(kit, cases, clock)
    record.save()
    parts_tests.rest(kit, cases, clock)
    record.save()
    parts_tests.again(kit, cases, clock)
    part["counts"] = parts_tests.counts(cases)
    speak(f"   {part['counts']}")
    for name, e in cases.items():
        if e["status"] != "passed":
            speak(f"   {e['status']}: {name} ({e['file']}) {e.get('detail', '')[:160]}")


def do_loop(kit, record, clock):
    if record.tests.get("loop", {}).get("status") == "passed":
        return
    outcome = jobs.run([kit.loop, kit.work], os.path.join(kit.work, "loop.log"), min(60 * kit.patience, clock.left()), kit.env)
    record.tests["loop"] = {"status": ended(outcome), "seconds": round(outcome.seconds, 1), "said": outcome.ending(3)}
    speak(f"   {record.tests['loop']['status']}")


def ended(outcome):
    if outcome.timed_out:
        return "timed out" if outcome.seconds > 0 else "not run"
    if outcome.code == baseline.UNAVAILABLE:
        return "unavailable"
    return "passed" if outcome.code == 0 else "crashed" if outcome.code < 0 else "failed"


def do_sections(kit, record, clock, part, words, names, most):
    """Sections of perf or of the baseline, one process each; lines that came before a crash are kept, an earlier run's too."""
    sections = record.speed[part]["sections"]
    for name in names:
        if sections.get(name, {}).get("status") == "passed":
            continue
        if clock.left() < 2:
            sections.setdefault(name, {"status": "not run", "results": []})
            continue
        lines, errors = (os.path.join(kit.work, f"{part}-{name}.{end}") for end in ("jsonl", "err"))
        outcome = jobs.run([*words, name, *kit.scale], lines, min(most, clock.left()), kit.env, errors)
        known = {(r["section"], r["case"]): r for r in sections.get(name, {}).get("results", [])}
        for line in outcome.text().splitlines():
            try:
                r = json.loads(line)
                known[r["section"], r["case"]] = r
            except (ValueError, KeyError, TypeError):
                continue
        results = list(known.values())
        sections[name] = {"status": ended(outcome), "date": store.today(), "seconds": round(outcome.seconds, 1), "results": results}
        if sections[name]["status"] != "passed":
            sections[name]["said"] = jobs.Outcome(0, 0, log=errors).ending()
        speak(f"   {name}: {sections[name]['status']}, {len(results)} results, {outcome.seconds:.1f} s {sections[name].get('said', '')[:160]}")
        record.save()


def do_part(name, kit, record, clock, job):
    if name == "tests":
        do_tests(kit, record, clock)
    elif name == "loop":
        do_loop(kit, record, clock)
    elif name == "perf":
        do_sections(kit, record, clock, name, [kit.perf], jobs.answer(kit.perf, "--list", env=kit.env).split(), 60)
    elif name == "baseline":
        script = os.path.join(HERE, "baseline.py")
        do_sections(kit, record, clock, name, [sys.executable, script], jobs.answer(sys.executable, script, "--list").split(), 100)
    elif name == "job":
        record.tests[name] = parts_job.run(kit, *job, 50, clock)
        speak(f"   {record.tests[name]}")
    elif name == "ncu":
        found = record.speed.setdefault("ncu", {})
        for section in ("optimisers", "adapters", "grams"):
            if found.get(section, {}).get("status") != "passed" and clock.left() > 5:
                found[section] = parts_check.profile(kit, section, clock)
                speak(f"   {section}: {found[section]['status']} {found[section].get('said', '')[:160]}")
    else:
        entry = record.tests.setdefault(name, {})
        entry.pop("unavailable", None)
        parts_check.check(kit, name, entry, clock)
        entry["counts"] = parts_tests.counts(entry.get("files", {}))
        speak(f"   {entry.get('unavailable') or entry['counts']}")


def main():
    words = argparse.ArgumentParser(prog="bench/cuda/run.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", required=True, help="folder for the result; few and small files")
    words.add_argument("--after", help="folder with what an earlier run left, where that is another one")
    words.add_argument("--budget", type=float, default=540, help="seconds in all (540)")
    words.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="these only: " + " ".join(PARTS))
    words.add_argument("--kit", help="what prepare.sh made (build/gpu-kit, or the folder this script lies in)")
    words.add_argument("--job", nargs=2, metavar=("PROGRAM", "DATA"), help="also examples/vision, built with CUDA, on its data")
    words.add_argument("--scale", type=int, default=1, help="sizes divided by this: for a rehearsal only")
    asked = words.parse_args()

    clock = jobs.Clock(asked.budget - 10)  # the last seconds are for putting things away
    os.makedirs(asked.out, exist_ok=True)
    if asked.after:
        for name in (store.TESTS, store.SPEED):
            path = os.path.join(asked.after, name)
            if os.path.exists(path):
                shutil.copy(path, asked.out)
    found = machine.describe()
    if not found:
        print("there is no GPU: nothing to record", file=sys.stderr)
        return 77
    speak(f"{found['gpu']}, driver {found['driver']}, {found['cores']} cores")
    with tempfile.TemporaryDirectory(prefix="loraga-gpu-", ignore_cleanup_errors=True) as work:
        near = os.path.join(HERE, "kit.json")
        kit = Kit(asked.kit or (HERE if os.path.exists(near) else os.path.join(HERE, "../../build/gpu-kit")), work, asked.scale)
        if asked.scale > 1 and not kit.facts.get("rehearsal"):
            sys.exit("--scale is for rehearsals: a record has whole sizes")
        record = store.Record(asked.out, work, kit.facts, found)
        missing = machine.missing_libraries(kit.unit, kit.env)
        if missing:
            print(f"libraries that were not found: {' '.join(missing)} (looked in {kit.env['LD_LIBRARY_PATH']})", file=sys.stderr)
        code = 0
        for name in PARTS:
            if name not in asked.parts or (name == "job" and not asked.job):
                continue
            speak(f"== {name} ({clock.left():.0f} s left)")
            share = clock.within(clock.left() * SHARE.get(name, 1.0))
            began = clock.left()
            try:
                do_part(name, kit, record, share, asked.job)
            except parts_tests.NoDevice as failure:
                print(f"the tests do not start here: {failure}", file=sys.stderr)
                code = 77
            except Exception as failure:  # one part's fault must not cost the others
                print(f"   {name} broke off: {type(failure).__name__}: {failure}", file=sys.stderr)
                record.tests.setdefault("broken", {})[name] = f"{type(failure).__name__}: {failure}"
            record.tests.setdefault("seconds", {})[name] = round(began - clock.left(), 1)
            record.save()
            if code == 77:
                return code
        return 0 if all_well(record, asked.parts) else 1


def all_well(record, parts):
    """Whether everything that was asked for passed; a checker that this machine refuses counts as passed."""
    statuses = []
    if "tests" in parts:
        statuses += [e["status"] for e in record.tests.get("tests", {}).get("cases", {"": {"status": "not run"}}).values()]
    if "loop" in parts:
        statuses.append(record.tests.get("loop", {}).get("status"))
    statuses += [record.tests["job"]["status"]] if "job" in record.tests else []
    for part in parts:
        if part in ("perf", "baseline"):
            statuses += [e["status"] for e in record.speed[part]["sections"].values()] or ["not run"]
        if part in parts_check.TOOLS and "unavailable" not in record.tests.get(part, {}):
            statuses += [e["status"] for e in record.tests.get(part, {}).get("files", {}).values()] or ["not run"]
    return all(s in ("passed", "clean", "unavailable") for s in statuses)


if __name__ == "__main__":
    sys.exit(main())
