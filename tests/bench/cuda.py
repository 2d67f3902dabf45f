"""bench/cuda: how every test's end is found, whatever became of its process; timeouts; what a later run keeps."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "cuda"))
import baseline
import catch_runs
import jobs
import kernels
import kit
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

# on_grid<reduce<float>> and a function it calls, on_grid<each<a test's functor>>, and a kernel of CUB
PTXAS = """ptxas info    : 45 bytes gmem
ptxas info    : Compiling entry function '_Z3runIN6loraga3gpu7on_gridINS0_6detail6reduceIfEEEEEvlT_' for 'sm_90'
ptxas info    : Function properties for _Z3runIN6loraga3gpu7on_gridINS0_6detail6reduceIfEEEEEvlT_
    48 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Function properties for _ZN6loraga6helperEv
    999 bytes stack frame, 999 bytes spill stores, 999 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 48 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compile time = 76.808 ms
ptxas info    : Compiling entry function '_Z3runIN6loraga3gpu7on_gridINS0_4eachIN12_GLOBAL__N_14mineEEEEEEvlT_' for 'sm_90'
ptxas info    : Function properties for _Z3runIN6loraga3gpu7on_gridINS0_4eachIN12_GLOBAL__N_14mineEEEEEEvlT_
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 99 registers, used 0 barriers
ptxas info    : Compiling entry function '_ZN3cub5EmptyIvEEvv' for 'sm_90'
ptxas info    : Function properties for _ZN3cub5EmptyIvEEvv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 4 registers, used 0 barriers
"""


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

    def test_kernels_and_what_they_use(self):
        again = PTXAS.replace("Used 40", "Used 38").replace("8 bytes spill stores", "16 bytes spill stores")
        rows, architectures, others = kernels.collected([PTXAS, again])
        self.assertEqual(rows, [{"kernel": "reduce<float>", "registers": 40, "stack_bytes": 48, "spill_store_bytes": 16,
                                 "spill_load_bytes": 12, "shared_bytes": 1024}])
        self.assertEqual((architectures, others), (["sm_90"], 2))
        found = kernels.summary(rows, others)
        self.assertEqual((found["kernels"], found["most_registers"], found["spilling"]), (1, 40, 1))
        text = kernels.written({"summary": found, "kernels": [*rows, dict.fromkeys(rows[0], 0) | {"kernel": "next"}]})
        self.assertEqual(json.loads(text), {"summary": found, "kernels": [*rows, {"kernel": "next"}]})

    def test_a_log_lives_as_long_as_its_object(self):
        compiler = pathlib.Path(self.work, "nvcc")
        compiler.write_text("#!/bin/sh\necho \"$@\" > $2\ncat >&2 << 'END'\na.cu(1): warning: something\n" + PTXAS + "END\n[ ! $3 ]\n",
                            encoding="utf8")
        keep = [str(pathlib.Path(kernels.__file__).parent / "keep_ptxas.sh"), "sh", str(compiler), "-o", os.path.join(self.work, "a.o")]
        kept = subprocess.run(["bash", *keep], capture_output=True, text=True, check=False)
        self.assertEqual((kept.returncode, kept.stderr.strip()), (1, "a.cu(1): warning: something"))  # an error stays one
        self.assertIn("-Xptxas -v", pathlib.Path(self.work, "a.o").read_text(encoding="utf8"))
        self.assertIn("Used 40 registers", pathlib.Path(self.work, "a.o.ptxas").read_text(encoding="utf8"))

    def test_a_kit_that_is_too_large_is_refused_by_name(self):
        folder = pathlib.Path(self.work, "kit")
        folder.mkdir()
        (folder / "large").write_bytes(b"0" * 2048)
        self.assertIn("at most 64.0 MiB", kit.size_of(folder, 64 * 2**20))
        self.assertTrue(0 < kit.room() <= 64 * 2**20)
        with self.assertRaisesRegex(SystemExit, r"kit: .* MiB, at most .* large"):
            kit.size_of(folder, 1024)

    def test_the_baseline_refuses_by_name(self):
        for text, said in (("raise ImportError('no such wheel')", "torch was not found: ImportError: no such wheel"),
                           ("__version__ = '9.9'\nclass cuda:\n    is_available = staticmethod(lambda: False)", "torch 9.9 sees no GPU")):
            pathlib.Path(self.work, "torch.py").write_text(text, encoding="utf8")
            found = subprocess.run([sys.executable, baseline.__file__, "adamw"], capture_output=True, text=True, check=False,
                                   env={**os.environ, "PYTHONPATH": self.work, "PYTHONDONTWRITEBYTECODE": "1"})
            self.assertEqual((found.returncode, found.stderr.strip(), found.stdout), (baseline.UNAVAILABLE, said, ""))

    def test_everything_must_pass(self):
        kept = store.Record(os.path.join(self.work, "out"), self.work, KIT, {"gpu": "one"})
        self.assertFalse(record.all_well(kept, ["tests"]))
        kept.tests["tests"] = {"cases": {"first": {"status": "passed"}}}
        self.assertTrue(record.all_well(kept, ["tests"]))
        kept.tests["tests"]["cases"]["second"] = {"status": "not run"}
        self.assertFalse(record.all_well(kept, ["tests"]))
        self.assertFalse(record.all_well(kept, ["perf"]))  # a program that names no section has not passed
        self.assertFalse(record.all_well(kept, ["memcheck"]))
        kept.tests["memcheck"] = {"unavailable": "compute-sanitizer was not found"}
        self.assertTrue(record.all_well(kept, ["memcheck"]))

    def test_sections_go_on_where_they_ended(self):
        class Kit:
            work, env, scale = self.work, {}, []

        kept = store.Record(os.path.join(self.work, "out"), self.work, KIT, {"gpu": "one"})
        line = 'echo {\\"section\\": \\"$0\\", \\"case\\": \\"%s\\"}'
        run = lambda text, seconds: record.do_sections(Kit, kept, jobs.Clock(seconds), "perf", ["sh", "-c", text], ["one", "two"], 60)
        run("[ $0 = one ] && exit; " + line % "a" + "; exit 3", 50)
        sections = kept.speed["perf"]["sections"]
        self.assertEqual({n: s["status"] for n, s in sections.items()}, {"one": "passed", "two": "failed"})
        run(line % "b", 50)  # the one that passed is not run again
        self.assertEqual((sections["one"]["results"], sections["two"]["status"]), ([], "passed"))
        self.assertEqual([r["case"] for r in sections["two"]["results"]], ["a", "b"])
        sections.clear()
        run("exit", 0)
        self.assertEqual({s["status"] for s in sections.values()}, {"not run"})
        self.assertFalse(record.all_well(kept, ["perf"]))


if __name__ == "__main__":
    unittest.main()
