"""The tests on a GPU: three gates first, then the rest file by file, then what did not pass once more, alone."""
import catch_runs
import jobs

GATES = (("backend", "[cuda]", 60), ("graphs", "[graph]", 60), ("fault", "[.fault]", 60))


class NoDevice(Exception):
    """The programs do not start here, or find no GPU."""


def gate(kit, cases, clock):
    """The gates that have not passed, one after another. Raises NoDevice where going on is pointless."""
    for name, spec, seconds in GATES:
        tests = [t for t in catch_runs.listed(kit.unit, spec, kit.env) if cases.get(t.name, {}).get("status") != "passed"]
        if not tests:
            continue
        entries, outcome = catch_runs.run_group(kit.unit, tests, "gate " + name, kit.work, min(seconds * kit.patience, clock.left()), kit.env)
        if outcome.code == 77 or (outcome.code in (126, 127) and all(e["status"] == "not run" for e in entries.values())):
            raise NoDevice(outcome.ending())
        cases.update(entries)
        good = sum(e["status"] == "passed" for e in entries.values())
        print(f"   {spec}: {good} of {len(tests)} passed, {outcome.seconds:.1f} s", flush=True)


def rest(kit, cases, clock, workers=8):
    """All other tests file by file, several files at a time; a file's process may take 90 s."""
    def task(name, tests):
        return lambda left: catch_runs.run_group(kit.unit, tests, "tests " + name, kit.work, min(90 * kit.patience, left), kit.env)

    todo = [t for t in catch_runs.listed(kit.unit, "", kit.env) if t.name not in cases]
    tasks = [task(name, tests) for name, tests in catch_runs.by_file(todo).items()]
    for done in jobs.run_many(tasks, workers, clock):
        cases.update(done.result()[0])


def again(kit, cases, clock, workers=8):
    """What did not pass, each alone: one test's fault spoils the others of its process, and must not count against them."""
    def task(test):
        def run(left):
            return test, catch_runs.run_group(kit.unit, [test], "alone " + test.name, kit.work, min(60 * kit.patience, left), kit.env)[0]
        return run

    fault = {t.name for t in catch_runs.listed(kit.unit, "[.fault]", kit.env)}  # it was alone already
    todo = [catch_runs.Test(name, e["file"]) for name, e in cases.items() if e["status"] != "passed" and name not in fault]
    for done in jobs.run_many([task(t) for t in todo], workers, clock):
        test, entries = done.result()
        entry, before = entries[test.name], cases[test.name]
        if entry["status"] == "not run":
            continue
        if before["status"] != "not run":
            entry["with_others"] = before["status"] + (": " + before["detail"] if before.get("detail") else "")
        cases[test.name] = entry


def counts(cases):
    total = {}
    for e in cases.values():
        total[e["status"]] = total.get(e["status"], 0) + 1
    return total
