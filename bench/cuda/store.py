"""The record in the caller's folder, complete after every part: cuda-tests.json, cuda.json and logs.tar.gz."""
import datetime
import json
import os
import shutil
import tarfile
import tempfile

TESTS, SPEED = "cuda-tests.json", "cuda.json"
COMMAND = "bash tests/run.sh --cuda --record"


def today():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def read(path):
    try:
        with open(path, encoding="utf8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def write(path, value):
    """All or nothing: a run that is cut off leaves the file of the part before."""
    with open(path + ".new", "w", encoding="utf8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)


class Record:
    """What was found so far, of one build on one kind of machine. Results of other sources or devices are not kept."""

    def __init__(self, out, work, kit, machine):
        self.out, self.work = out, work
        os.makedirs(out, exist_ok=True)
        self.tests = self._opened(TESTS, machine, {"sources": kit["sources"]["tests"]}, kit)
        self.speed = self._opened(SPEED, machine, {}, kit)
        for part, sources in (("perf", kit["sources"]["perf"]), ("baseline", kit["sources"]["baseline"])):
            entry = self.speed.get(part, {})
            if entry.get("sources") != sources:
                self.speed[part] = {"sources": sources, "sections": {}}

    def _opened(self, name, machine, fresh, kit):
        old = read(os.path.join(self.out, name))
        same = old.get("machine", {}).get("gpu") == machine.get("gpu") and all(old.get(k) == v for k, v in fresh.items())
        record = old if same and bool(old.get("rehearsal")) == bool(kit.get("rehearsal")) else {}
        head = {"command": COMMAND, "machine": machine, "build": kit["build"], **fresh}
        if kit.get("rehearsal"):
            head["rehearsal"] = "on a host, against a double of the CUDA libraries: no figure here says anything"
        return {**record, **head}

    def save(self):
        self.tests["date"] = self.speed["date"] = today()
        write(os.path.join(self.out, TESTS), self.tests)
        write(os.path.join(self.out, SPEED), self.speed)
        self._archive()

    def _archive(self, most=200_000):
        """The ends of all logs, so that one file stays small."""
        target = os.path.join(self.out, "logs.tar.gz")
        with tempfile.TemporaryDirectory() as folder:
            for name in sorted(os.listdir(self.work)):
                path = os.path.join(self.work, name)
                if os.path.isfile(path) and name.endswith((".log", ".xml", ".sanitizer", ".csv", ".jsonl", ".err")):
                    with open(path, "rb") as source, open(os.path.join(folder, name), "wb") as copy:
                        source.seek(max(0, os.path.getsize(path) - most))
                        shutil.copyfileobj(source, copy)
            with tarfile.open(target + ".new", "w:gz", compresslevel=5) as archive:
                archive.add(folder, "logs")
        os.replace(target + ".new", target)
