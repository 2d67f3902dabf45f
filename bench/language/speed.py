"""Training steps of this library and of PEFT in turn: the same losses first, then seconds and memory."""
import json
import os
import statistics
import subprocess

WARM_UP, ROUNDS, BATCHES = 2, 10, 12
LIMIT = 2e-3  # relative difference of a step's loss from PEFT's


class Server:
    """A program that takes a step per line."""

    def __init__(self, name, command):
        self.name, self.losses, self.seconds = name, [], []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer("ready")

    def answer(self, expected=None):
        line = self.process.stdout.readline().strip()
        if not line or (expected and line != expected):
            raise RuntimeError(f"{self.name} said '{line}'")
        return line

    def step(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        loss, seconds = map(float, self.answer().split())
        self.losses.append(loss)
        self.seconds.append(seconds)

    def peak_bytes(self):
        """Ends it. The most memory it has held, its whole life long."""
        self.process.stdin.close()
        _, status, usage = os.wait4(self.process.pid, 0)
        if status:
            raise RuntimeError(f"{self.name} ended with status {status}")
        self.process.returncode = 0
        return usage.ru_maxrss * 1024


def measure(step_server, python, peer, model, data, folder, threads):
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [str(threads), "256", str(BATCHES)]
    ours = Server("loraga", [step_server, model, data, str(folder), *numbers])
    peers = [Server(f"PEFT, {n} at a time", [python, peer, model, str(folder), str(threads), str(n)]) for n in (8, 2, 1)]
    sides = [ours, *peers]
    for i in range(WARM_UP + ROUNDS):
        for side in sides[i % len(sides):] + sides[:i % len(sides)]:  # each is first in turn
            side.step()
        print(f"step {i}: " + ", ".join(f"{s.name} {s.seconds[-1]:.2f} s" for s in sides), flush=True)
    apart = max(abs(a / b - 1) for p in peers for a, b in zip(ours.losses, p.losses))
    if apart > LIMIT:
        raise RuntimeError(f"the losses are {apart:.2g} apart, more than {LIMIT}: {[s.losses for s in sides]}")
    batches = json.loads((folder / "batches.json").read_text())
    tokens = [sum(len(i["tokens"]) - 1 for i in b) for b in batches]
    tokens = [tokens[i % BATCHES] for i in range(WARM_UP, WARM_UP + ROUNDS)]
    rows = [{"side": s.name, "tokens_per_second": round(statistics.median(n / t for n, t in zip(tokens, s.seconds[WARM_UP:])), 1),
             "step_seconds": round(statistics.median(s.seconds[WARM_UP:]), 3), "peak_bytes": s.peak_bytes(),
             "seconds": [round(x, 3) for x in s.seconds[WARM_UP:]]} for s in sides]
    best = max(rows[1:], key=lambda r: r["tokens_per_second"])
    least = min(rows[1:], key=lambda r: r["peak_bytes"])
    return {"threads": threads, "rounds": ROUNDS, "mean_tokens_per_step": round(statistics.mean(tokens), 1),
            "largest_relative_loss_difference": float(f"{apart:.2g}"), "sides": rows,
            "ratio_to_fastest_peer": round(statistics.median(b / a for a, b in zip(rows[0]["seconds"], best["seconds"])), 2),
            "memory_share_of_smallest_peer": round(rows[0]["peak_bytes"] / least["peak_bytes"], 3)}
