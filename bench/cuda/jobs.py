"""Programs in processes of their own, each with a timeout, within one budget of time. Nothing here waits for ever."""
import concurrent.futures
import contextlib
import dataclasses
import os
import signal
import subprocess
import time


class Clock:
    """Seconds left of a budget; `within` gives a part its own share of it."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return max(0.0, self.end - time.monotonic())

    def within(self, seconds):
        return Clock(min(seconds, self.left()))


@dataclasses.dataclass
class Outcome:
    code: int | None  # None: not started, or killed because its time was over
    seconds: float
    timed_out: bool = False
    log: str = ""

    def text(self):
        try:
            with open(self.log, errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def ending(self, lines=4):
        return " | ".join(line.strip() for line in self.text().strip().splitlines()[-lines:])[-600:]


def run(words, log, seconds, env=None, errors=None):
    """Runs one program with its output in `log` (and stderr in `errors`); after `seconds` its whole process group is killed."""
    began = time.monotonic()
    if seconds <= 0:
        return Outcome(None, 0.0, True, log)
    with contextlib.ExitStack() as files:
        out = files.enter_context(open(log, "wb"))
        err = files.enter_context(open(errors, "wb")) if errors else subprocess.STDOUT
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                                       env={**os.environ, **(env or {})})
        except OSError as failure:
            out.write(str(failure).encode())
            return Outcome(127, 0.0, False, log)
        try:
            code = process.wait(timeout=seconds)
            return Outcome(code, time.monotonic() - began, False, log)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # one stuck in the driver stays behind
                process.wait(timeout=5)
            return Outcome(None, time.monotonic() - began, True, log)


def run_many(tasks, workers, clock):
    """Calls every task(seconds left) on a pool of threads, in order, until the clock has run out; yields results as they come."""
    def one(task):
        return task(clock.left())

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield from concurrent.futures.as_completed([pool.submit(one, task) for task in tasks])


def answer(*words, seconds=20, env=None):
    """What a program prints, or nothing if it fails or takes too long."""
    try:
        found = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False, env={**os.environ, **(env or {})})
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
