"""Runs the evidence's plan through examples/sentiment and reports. bench/run.sh evidence sets everything up and calls it.

Everything is restartable: records are appended to WORK/results.jsonl as items end, and what is there is not run again.
The probes and what was chosen to fit the budget are in WORK/settings.json.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import time

import check
import files
import plan
import report


class Results:
    """The program's output file: one JSON object per finished item."""

    def __init__(self, path):
        self.path, self.records, self.offset = path, {}, 0

    def tidy(self, retry=False, again=()):
        """Drops a line that a killed run left unfinished and, if asked, failed items and those of some ids, to run them again."""
        if not os.path.exists(self.path):
            return
        kept = []
        with open(self.path) as file:
            for line in file:
                try:
                    record = json.loads(line)
                    if line.endswith("\n") and not (retry and "error" in record) and record["id"] not in again:
                        kept.append(line)
                except json.JSONDecodeError:
                    print("dropped an unfinished record")
        with open(self.path + ".new", "w") as out:
            out.writelines(kept)
        os.replace(self.path + ".new", self.path)

    def read(self):
        """New records since the last call."""
        found = []
        if os.path.exists(self.path):
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # it is being written
                    self.offset += len(line)
                    record = json.loads(line)
                    self.records[record["id"]] = record
                    found.append(record)
        return found


def minutes(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Runner:
    def __init__(self, args):
        self.args = args
        self.results = Results(os.path.join(args.work, "results.jsonl"))
        if not (args.report_only or args.check):
            self.results.tidy(args.retry, {i["id"] for i in plan.probes()} if args.probe_again else ())
        self.results.read()
        self.settings_path = os.path.join(args.work, "settings.json")
        self.settings = json.load(open(self.settings_path)) if os.path.exists(self.settings_path) else {}
        if args.probe_again:
            self.settings = {k: v for k, v in self.settings.items() if k not in ("costs", "asked", "chosen")}
        self.correction = 1.0  # measured over estimated time
        self.worked = False  # whether the program has finished any item since this start

    def save(self):
        with open(self.settings_path + ".new", "w") as out:
            json.dump(self.settings, out, indent=1)
        os.replace(self.settings_path + ".new", self.settings_path)

    def left_of(self, items):
        return [i for i in items if i["id"] not in self.results.records]

    def seconds(self, items):
        return self.correction * sum(plan.cost(i, self.settings["costs"]) for i in self.left_of(items)) / self.args.threads

    def start(self, name, items):
        path = os.path.join(self.args.work, name + ".jsonl")
        with open(path, "w") as out:
            out.writelines(json.dumps(i) + "\n" for i in items)
        command = [self.args.program, "--plan", path, "--results", self.results.path, "--threads", str(self.args.threads)]
        if self.args.device != "cpu":
            command += ["--device", self.args.device]
        with open(os.path.join(self.args.work, name + ".log"), "a") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def run(self, name, items, later=()):
        """Runs what has no record yet; returns seconds. A program that dies is started again while it makes progress; then
        each item left gets a program of its own, and one that still dies counts as failed."""
        todo = self.left_of(items)
        began, self.total, self.done = time.perf_counter(), len(todo), 0
        expected = sum(plan.cost(i, self.settings["costs"]) for i in todo) if "costs" in self.settings else 0
        left = todo
        while left:
            status = self.attempt(name, left, todo, later)
            before, left = left, self.left_of(todo)
            if status or left:
                print(f"{name}: the program ended with status {status}, {len(left)} items without a record", flush=True)
            if len(left) == len(before):
                lost = 0
                for item in left:
                    status = self.attempt(name, [item], todo, later)
                    lost = 0 if item["id"] in self.results.records else lost + 1
                    if lost == 3:  # not the items' fault: a full disk, a missing model
                        sys.exit(f"{name}: three items in a row ended the program (status {status}); see {self.args.work}/{name}.log")
                    if lost:
                        self.give_up(name, item, status)
                left = []
        spent = time.perf_counter() - began
        if expected and len(todo) > 4:
            self.correction = spent * self.args.threads / expected
        return spent

    def attempt(self, name, items, todo, later):
        program, status = self.start(name, items), None
        try:
            while status is None:
                try:
                    status = program.wait(1)
                except subprocess.TimeoutExpired:
                    pass
                for record in self.results.read():
                    self.done, self.worked = self.done + 1, True
                    self.tell(name, record, todo, later)
        finally:
            if program.poll() is None:
                program.terminate()
                program.wait()
        if status:
            self.results.tidy()
        return status

    def give_up(self, name, item, status):
        if not self.worked:  # nothing works: the set-up's fault, not the item's
            log = os.path.join(self.args.work, name + ".log")
            with open(log) as file:
                last = file.readlines()[-20:]
            sys.exit("".join(last) + f"the program ended with status {status}; its output is {log}")
        with open(self.results.path, "a") as out:
            out.write(json.dumps({"id": item["id"], "spec": item, "error": f"the program ended with status {status}"}) + "\n")
        self.results.read()

    def tell(self, name, record, items, later):
        spec = record["spec"]
        text = " ".join(str(spec[k]) for k in ("method", "set") if k in spec) + (f" lr {spec['lr']:g}" if "lr" in spec else "")
        if "error" in record:
            text += f": FAILED: {record['error']}"
        elif plan.finite(record.get("loss")):
            text += f": loss {record['loss']:.4f}, accuracy {record['accuracy']:.4f}"
        left = ""
        if "costs" in self.settings:
            left = f"; stage {minutes(self.seconds(items))}, all {minutes(self.seconds(items) + self.seconds(later))} to go"
        print(f"[{name} {self.done}/{self.total}] {text} (seed {spec['seed']}){left}", flush=True)

    def probe(self):
        items = plan.probes()
        if "costs" in self.settings and not self.left_of(items):
            return
        self.settings.pop("costs", None)  # of other methods than the plan's
        self.run("probes", items)
        bad = [self.results.records[i["id"]] for i in (plan.LONGER, plan.OFTENER, plan.probe()) if "error" in self.results.records[i["id"]]]
        if bad:
            sys.exit(f"the probes of LoRA failed: {bad[0]['error']}")
        self.settings["costs"] = plan.costs_from(self.results.records)
        self.save()

    def choose(self):
        """Settles steps and subset once; the same options keep them when the run is started again."""
        asked = {"budget_hours": self.args.budget, "steps": self.args.steps, "device": self.args.device, "threads": self.args.threads}
        if self.settings.get("asked") != asked:
            self.settings["chosen"] = plan.choose(3600 * self.args.budget, self.settings["costs"], self.args.threads, self.args.steps)
            self.settings["asked"] = asked
            self.save()
        chosen = self.settings["chosen"]
        fits = "" if chosen["estimated_seconds"] <= 3600 * self.args.budget else ", more than that, but no less is allowed"
        print(f"chosen for {self.args.budget:g} hours (estimated {minutes(chosen['estimated_seconds'])}{fits}): {chosen['steps']} steps, evaluated "
              f"every {chosen['evaluate_every']}; late stages on {', '.join(chosen['late_sets'])}, methods beyond the paper's on "
              f"{', '.join(chosen['more_sets'])}"
              + (f"; without {', '.join(chosen['dropped'])}" if chosen["dropped"] else ""), flush=True)

    def all(self):
        self.note_session()
        self.probe()
        costs = self.settings["costs"]
        print("seconds per step: " + ", ".join(f"{m} {s:.2f}" for m, s in costs["step"].items())
              + f"; an evaluation {costs['curve']:.2f} on the way, {costs['snippet'] * costs['part']['test']:.2f} at the end", flush=True)
        self.choose()
        chosen, wanted, records = self.settings["chosen"], self.args.stages, self.results.records
        spent = self.settings.setdefault("seconds", {})
        for name in wanted:
            rates = plan.rates_from(chosen, records) or plan.UNKNOWN_RATES
            planned = plan.stages(chosen, rates, plan.rates_beyond(chosen, records))
            if name not in ("sweep", "coverage") and rates is plan.UNKNOWN_RATES:
                print(f"{name}: needs the sweep's rates, which are not there")
                continue
            later = [i for n in wanted[wanted.index(name) + 1:] for i in planned[n]]
            took = self.run(name, planned[name], later)
            if name == "sweep":
                more = plan.stages(chosen, plan.UNKNOWN_RATES, plan.rates_beyond(chosen, records))["sweep"]
                took += self.run("sweep-beyond", more, later)
            spent[name] = round(spent.get(name, 0) + took, 1)
            self.save()
            failed = sum("error" in records.get(i["id"], {}) for i in planned[name])
            print(f"{name}: {minutes(took)}" + (f", {failed} failed" if failed else "")
                  + f"; the rest about {minutes(self.seconds(later))}", flush=True)

    def note_session(self):
        with open(os.path.join(self.args.work, "sessions.jsonl"), "a") as out:
            out.write(json.dumps({"date": time.strftime("%Y-%m-%d"), "commit": files.commit(), "device": self.args.device,
                                  "threads": self.args.threads, "machine": files.machine(self.args.device),
                                  "stages": self.args.stages}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=3.0, metavar="HOURS", help="choose a subset that ends in about this time")
    parser.add_argument("--stages", nargs="+", choices=plan.STAGES, default=plan.STAGES, help="only these")
    parser.add_argument("--steps", type=int, help=f"steps of a run (default: what the budget allows, at most {plan.STEPS})")
    parser.add_argument("--report-only", action="store_true", help="make the report from the records that are there")
    parser.add_argument("--records-only", action="store_true", help="make no report, for which a machine may lack the packages")
    parser.add_argument("--check", action="store_true", help="only check the report against the records")
    parser.add_argument("--retry", action="store_true", help="run failed items again")
    parser.add_argument("--probe-again", action="store_true", help="measure costs and choose the subset anew")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="items side by side (default: every core, 4 on a GPU)")
    parser.add_argument("--work", help="folder of raw records (default: build/evidence, on a GPU build/evidence-cuda)")
    for name, text in (("--program", "examples/sentiment"), ("--server", "bench/svd_server"), ("--results", "folder for evidence.json"),
                       ("--document", "evidence.md")):
        parser.add_argument(name, required=True, help=text)
    args = parser.parse_args()
    args.work = args.work or "build/evidence" + ("-cuda" if args.device == "cuda" else "")
    os.makedirs(args.work, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the program is ended as well
    args.threads = args.threads or (4 if args.device == "cuda" else os.cpu_count())
    args.stages = [s for s in plan.STAGES if s in args.stages]
    runner = Runner(args)
    try:
        if not (args.report_only or args.check):
            runner.all()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
    if "chosen" not in runner.settings:
        sys.exit(f"no records in {args.work}: run without --report-only first")
    if args.records_only:
        return
    if not args.check:
        report.write(args, runner.settings, runner.results.records)
    check.check(args, runner.settings, runner.results.records)


if __name__ == "__main__":
    main()
