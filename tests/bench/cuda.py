"""bench/cuda: how every test's end is found, whatever became of its process; timeouts; what a later run keeps."""
import os
import pathlib
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "cuda"))
import catch_runs
import jobs
import parts_check
import record
import report
import store

PASSED = '<TestCase name="first" filename="a.cpp" line="1"><OverallResult success="true" durationInSeconds="0.5"/></TestCase>'
FAILED = ('<TestCase name="second"><Expression success="false" filename="/x/a.cpp" line="7"><Original>a == b</Original></Expression>'
          '<OverallResult success="false" durationInSeconds="0.1"/></TestCase>')
KIT = {"sources": {"tests": "t", "perf": "p", "baseline": "b"}, "build": {}}


def program(folder, text):
    path = os.path.join(folder, "unit")
    with open(path, "w", encoding="utf8") as file:
        file.write("#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\n" + text)
    os.chmod(path, 0o755)
    return path


class Cuda(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.work = holder.name

    def group(self, text, seconds=20):
        tests = [catch_runs.Test(n, "a.cpp") for n in ("first", "second", "third")]
        entries, outcome = catch_runs.run_group(program(self.work, text), tests, "group", self.work, seconds)
        return {n: e["status"] for n, e in entries.items()}, outcome, entries

    def test_ends_of_tests(self):
        whole = f"echo '<Catch><Group>{PASSED}{FAILED}' > $2; "
        statuses, _, entries = self.group(whole + "exit 1")
        self.assertEqual(statuses, {"first": "passed", "second": "failed", "third": "not run"})
        self.assertIn("a.cpp:7", entries["second"]["detail"])
        statuses, outcome, _ = self.group(f"echo '<Catch>{PASSED}<TestCase name=\"second\">' > $2; kill -SEGV $$")
        self.assertEqual(statuses, {"first": "passed", "second": "crashed", "third": "not run"})
        self.assertLess(outcome.code, 0)
        statuses, outcome, _ = self.group(f"echo '<Catch>{PASSED}<TestCase name=\"second\">' > $2; sleep 60", 1)
        self.assertEqual(statuses, {"first": "passed", "second": "timed out", "third": "not run"})
        self.assertTrue(outcome.timed_out)
        statuses, _, _ = self.group("exit 127")
        self.assertEqual(set(statuses.values()), {"not run"})

    def test_names(self):
        name = 'a, "b" [c] \\d*'
        self.assertEqual(catch_runs.specification([catch_runs.Test(name, "")]), r'a\, \"b\" \[c\] \\d\*')

    def test_a_family_of_processes_ends_in_time(self):
        began = time.monotonic()
        outcome = jobs.run(["sh", "-c", "sleep 60 & echo $!; wait"], os.path.join(self.work, "log"), 1)
        self.assertTrue(outcome.timed_out)
        status = pathlib.Path("/proc", outcome.text().strip(), "stat")
        time.sleep(0.2)
        self.assertFalse(status.exists() and status.read_text().split()[2] != "Z")
        self.assertLess(time.monotonic() - began, 10)
        clock = jobs.Clock(0)
        self.assertTrue(jobs.run(["true"], os.path.join(self.work, "log"), clock.left()).timed_out)
        self.assertEqual(jobs.run(["no-such-program"], os.path.join(self.work, "log"), 5).code, 127)

    def test_what_is_kept(self):
        machine, out = {"gpu": "one"}, os.path.join(self.work, "out")
        first = store.Record(out, self.work, KIT, machine)
        first.tests["tests"] = {"cases": {"first": {"status": "passed"}}}
        first.speed["perf"]["sections"]["grams"] = {"status": "passed", "results": []}
        first.speed["baseline"]["sections"]["adamw"] = {"status": "passed", "results": []}
        first.save()
        same = store.Record(out, self.work, KIT, machine)
        self.assertIn("first", same.tests["tests"]["cases"])
        self.assertIn("grams", same.speed["perf"]["sections"])
        repaired = store.Record(out, self.work, {**KIT, "sources": {"tests": "T", "perf": "P", "baseline": "b"}}, machine)
        self.assertNotIn("tests", repaired.tests)
        self.assertEqual(repaired.speed["perf"]["sections"], {})
        self.assertIn("adamw", repaired.speed["baseline"]["sections"])
        self.assertNotIn("tests", store.Record(out, self.work, KIT, {"gpu": "another"}).tests)
        self.assertNotIn("tests", store.Record(out, self.work, {**KIT, "rehearsal": True}, machine).tests)
        self.assertEqual(sorted(os.listdir(out)), ["cuda-tests.json", "cuda.json", "logs.tar.gz"])

    def test_checkers(self):
        log = os.path.join(self.work, "log")
        outcome = jobs.Outcome(0, 1.0)
        entries = {"first": {"status": "passed"}}
        for text, status in (("========= ERROR SUMMARY: 0 errors", "clean"), ("x\n========= ERROR SUMMARY: 2 errors", "errors"),
                             ("Device not supported", "refused")):
            pathlib.Path(log).write_text(text, encoding="utf8")
            self.assertEqual(parts_check.verdict(log, entries, outcome)["status"], status)
        self.assertEqual(parts_check.verdict(log, entries, jobs.Outcome(None, 90.0, True))["status"], "timed out")

    def test_ratios(self):
        ours = {("initialise_7b", "r=8"): {"seconds": 0.1, "loss": 1e-4}, ("optimisers", "float r=8 step"): {"seconds": 1e-3}}
        theirs = {("svd_lowrank", "7b r=8 q=4r fp32"): {"seconds": 2.0, "loss": 2e-4}}
        found = report.pairs(ours, theirs)
        self.assertEqual([(f["ratio"], f["loss"], f["their_loss"]) for f in found], [(20.0, 1e-4, 2e-4)])

    def test_everything_must_pass(self):
        kept = store.Record(os.path.join(self.work, "out"), self.work, KIT, {"gpu": "one"})
        self.assertFalse(record.all_well(kept, ["tests"]))
        kept.tests["tests"] = {"cases": {"first": {"status": "passed"}}}
        self.assertTrue(record.all_well(kept, ["tests"]))
        kept.tests["tests"]["cases"]["second"] = {"status": "not run"}
        self.assertFalse(record.all_well(kept, ["tests"]))


if __name__ == "__main__":
    unittest.main()
