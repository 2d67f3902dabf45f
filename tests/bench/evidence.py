"""The evidence's plan, driver and verdicts, with a program in place of examples/sentiment that trains nothing."""
import argparse
import contextlib
import io
import json
import os
import stat
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "evidence"))
sys.dont_write_bytecode = True
import plan
import report
import run
import verdicts

PROGRAM = """#!/usr/bin/env python3
import json, os, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
known = {json.loads(l)["id"] for l in open(options["--results"])} if os.path.exists(options["--results"]) else set()
for line in open(options["--plan"]):
    spec = json.loads(line)
    if spec["id"] in known:
        continue
    if spec["id"] in os.environ.get("KILLED_BY", "").split():
        os.abort()
    result = {"id": spec["id"], "spec": spec, "loss": 0.5, "accuracy": 0.5}
    if spec["id"] in os.environ.get("FAILS", "").split():
        result = {"id": spec["id"], "spec": spec, "error": "the loss after step 3 is not a number: the run diverged"}
    with open(options["--results"], "a") as out:
        out.write(json.dumps(result) + "\\n")
    if spec["id"] in os.environ.get("ENDS_AFTER", "").split():
        os._exit(1)
"""


def curve(*losses):
    return {"steps": list(range(0, 10 * len(losses), 10)), "losses": list(losses)}


def row(values, metric="loss", **more):
    mean, sd = verdicts.mean_sd(values)
    return {"metric": metric, "values": values, "mean": mean, "sd": sd, **more}


class Verdicts(unittest.TestCase):
    def test_crossing_is_linear_between_evaluations(self):
        self.assertEqual(verdicts.crossing(curve(1.0, 0.75, 0.25), 0.5), (15.0, False))
        self.assertEqual(verdicts.crossing(curve(1.0, 0.5, 0.4), 0.75), (5.0, True))  # within the first stretch: a bound
        self.assertEqual(verdicts.crossing(curve(1.0, 0.9), 0.5), (None, False))
        self.assertEqual(verdicts.crossing(curve(0.4, 0.9), 0.5), (0.0, False))
        self.assertEqual(verdicts.crossing(curve(1.0, float("nan"), 0.1), 0.5), (None, False))

    def test_steps_to_the_loss_lora_ends_with(self):
        found = verdicts.steps_to([curve(1.0, 0.75, 0.5)] * 2, [curve(1.0, 0.75, 0.25), curve(1.0, 0.9, 0.8)])
        self.assertEqual(found["steps_to_lora"], [15.0, None])
        self.assertEqual((found["lora_steps"], found["reached"]), ([20.0, 20.0], 1))
        self.assertAlmostEqual(found["ratio"], 20 / 15, 5)
        # a LoRA that did not learn sets no target
        self.assertIsNone(verdicts.steps_to([curve(1.0, 1.1)], [curve(1.0, 0.5)])["ratio"])

    def test_a_gain_counts_only_beyond_both_spreads(self):
        better = verdicts.compare(row([0.10, 0.11, 0.12]), row([0.20, 0.21, 0.22]))
        self.assertEqual(better["verdict"], "better")
        self.assertAlmostEqual(better["gain"], 0.1)
        self.assertEqual(verdicts.compare(row([0.9, 0.9], "accuracy"), row([0.8, 0.81], "accuracy"))["verdict"], "better")
        self.assertEqual(verdicts.compare(row([0.2, 0.21]), row([0.1, 0.11]))["verdict"], "worse")
        # always better by a little, but the seeds differ by more
        self.assertEqual(verdicts.compare(row([0.1, 0.5, 0.9]), row([0.11, 0.51, 0.91]))["verdict"], "within the spread")
        self.assertIsNone(verdicts.compare(row([0.1, None, None]), row([0.2, 0.2, 0.2])))
        diverged = row([0.1, 0.1, 0.1]) | {"mean": None}
        self.assertIsNone(verdicts.compare(row([0.2, 0.2, 0.2]), diverged))

    def test_an_average_needs_every_set(self):
        rows = [row([0.1, 0.2, 0.3], set=s) for s in plan.SETS]
        self.assertAlmostEqual(verdicts.average(rows)["mean"], 0.2)
        self.assertIsNone(verdicts.average(rows[1:]))

    def test_divergence(self):
        self.assertTrue(report.diverges({"error": "the loss after step 3 is not a number: the run diverged"}))
        self.assertTrue(report.diverges({"loss": float("inf")}))
        self.assertFalse(report.diverges({"error": "no space left on the device"}))
        self.assertFalse(report.diverges({"loss": 0.5}))


class Plan(unittest.TestCase):
    def test_an_id_is_a_function_of_all_that_is_asked(self):
        settings = plan.ladder()[0]
        one = plan.train(settings, "lora", "movie", 1e-3, 1)
        self.assertEqual(one["id"], plan.train(settings, "lora", "movie", 1e-3, 1)["id"])
        others = [plan.train(settings, "lora", "movie", 1e-3, 2), plan.train(settings, "lora", "movie", 1e-3, 1, rank=32),
                  plan.train(plan.ladder(30)[0], "lora", "movie", 1e-3, 1)]
        self.assertEqual(len({one["id"], *(o["id"] for o in others)}), 4)

    def test_stages_share_runs_and_every_method_is_in_the_table(self):
        for settings in plan.ladder():
            planned = plan.stages(settings, plan.UNKNOWN_RATES)
            ids = [i["id"] for items in planned.values() for i in items]
            self.assertEqual(len(ids), len(set(ids)))
            for m in plan.METHODS:
                sets = settings["more_sets"] if m in plan.MORE_METHODS else plan.SETS
                rates = 1 if m == "full" else 2
                self.assertEqual(sum(i["method"] == m for i in planned["table"]), rates * len(sets) * len(plan.SEEDS), m)

    def test_the_best_rate_and_the_grid_beyond_it(self):
        self.assertEqual(plan.best_of({1e-4: 0.5, 1e-3: 0.4, 1e-2: None}), 1e-3)
        self.assertIsNone(plan.best_of({1e-4: None}))
        settings, records = plan.ladder()[-1], {}
        for i in plan.sweep(settings):
            records[i["id"]] = {"loss": abs(i["lr"] - (1e-2 if i["method"] == "lora" else 1e-3))}
        self.assertEqual(plan.rates_beyond(settings, records), [("lora", plan.ABOVE)])
        self.assertIsNone(plan.rates_from(settings, records))  # the extension is missing
        for i in plan.sweep(settings, [plan.ABOVE], ["lora"]):
            records[i["id"]] = {"error": "diverged"}
        rates = plan.rates_from(settings, records)
        self.assertEqual((rates["common"], rates["best"]["lora"], rates["best"]["pissa"]), (1e-3, 1e-2, 1e-3))


class Driver(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        program = os.path.join(self.folder.name, "program")
        with open(program, "w") as out:
            out.write(PROGRAM)
        os.chmod(program, os.stat(program).st_mode | stat.S_IXUSR)
        self.args = argparse.Namespace(work=self.folder.name, program=program, threads=1, device="cpu", report_only=False, check=False,
                                       retry=False, probe_again=False)
        self.items = [plan.gradient("movie", seed) for seed in range(4)]

    def tearDown(self):
        self.folder.cleanup()

    def runner(self, **environment):
        for name in ("FAILS", "KILLED_BY", "ENDS_AFTER"):
            os.environ[name] = environment.get(name, "")
        runner = run.Runner(self.args)
        with contextlib.redirect_stdout(io.StringIO()):
            runner.run("stage", self.items)
        return runner

    def lines(self):
        with open(os.path.join(self.folder.name, "results.jsonl")) as file:
            return file.readlines()

    def test_every_item_once(self):
        self.runner(ENDS_AFTER=self.items[1]["id"])  # is started again after it ended early
        self.assertEqual(sorted(json.loads(l)["id"] for l in self.lines()), sorted(i["id"] for i in self.items))

    def test_an_item_that_kills_the_program_is_failed_and_the_others_run(self):
        records = self.runner(KILLED_BY=self.items[1]["id"]).results.records
        self.assertIn("the program ended with status", records[self.items[1]["id"]]["error"])
        self.assertEqual(sum("loss" in r for r in records.values()), 3)

    def test_failed_items_run_again_only_when_asked(self):
        bad = self.items[2]["id"]
        self.assertIn("error", self.runner(FAILS=bad).results.records[bad])
        self.assertIn("error", self.runner().results.records[bad])
        self.args.retry = True
        self.assertEqual(self.runner().results.records[bad]["loss"], 0.5)

    def test_a_line_that_was_being_written_is_run_again(self):
        self.runner()
        whole = "".join(self.lines())
        for cut in (20, 1):
            with open(os.path.join(self.folder.name, "results.jsonl"), "w") as out:
                out.write(whole[:-cut])
            self.assertEqual(len(self.runner().results.records), 4)
            self.assertEqual(len(self.lines()), 4)

    def test_a_plan_with_a_method_more_goes_on_from_what_was_probed(self):
        runner = self.runner()
        records = {i["id"]: {"id": i["id"], "spec": i, "seconds": 9.0, "init_seconds": 1.0, "n_test": 300} for i in plan.probes()}
        missing = plan.probe(plan.METHODS[-1])["id"]
        runner.results.records.update({k: v for k, v in records.items() if k != missing})
        costs = plan.costs_from(records)
        runner.settings["costs"] = {**costs, "step": {m: s for m, s in costs["step"].items() if m != plan.METHODS[-1]}}
        with contextlib.redirect_stdout(io.StringIO()):
            runner.probe()
        self.assertIn(missing, runner.results.records)
        self.assertEqual(list(runner.settings["costs"]["step"]), plan.METHODS + plan.ARMS)

    def test_a_program_that_cannot_work_ends_the_run_with_its_words(self):
        with open(self.args.program, "w") as out:
            out.write("#!/bin/sh\necho no model there\nexit 3\n")
        with self.assertRaisesRegex(SystemExit, "no model there"):
            self.runner()


unittest.main()
