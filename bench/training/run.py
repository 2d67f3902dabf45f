"""bench/results/training.json: whole training steps (forward, loss, backward, AdamW) of this library and of PEFT, in turn.

Both sides start from the same weights, adapters and head, and see the same batches; a step's losses must be the same, or the run
ends. PEFT runs in several forms: a batch at once, as it is used by default, and cut into pieces of like length, which saves
padding; with attention by sdpa and by hand. The fastest is the one to beat. Tokens are counted without padding.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "evidence"), str(HERE.parent / "language")]
import files
from speed import Server

WARM_UP, BATCHES = 3, 12
PAUSE = 0.03  # seconds between turns, in which the threads of the side before go to sleep
options = None


class Encoder:
    """all-MiniLM-L6-v2 with a new head, on 16 movie reviews a step."""

    batch, limit = 16, 2e-5  # snippets a step; the largest relative difference of a step's loss
    forms = [(16, "sdpa"), (16, "eager"), (8, "eager"), (4, "sdpa"), (4, "eager"), (2, "eager")]  # the default first

    def __init__(self, method):
        self.name, self.method = f"minilm-{method}", method
        self.what = f"all-MiniLM-L6-v2, {'LoRA r = 8' if method == 'lora' else 'full fine-tuning'}"

    def ours(self, folder, threads):
        return [options.encoder_server, options.encoder, options.snippets, folder, threads, self.method, BATCHES]

    def peers(self, folder, threads):
        peer = [options.python, HERE / "encoder_peer.py", options.encoder, folder, threads, self.method]
        return {f"{n} at a time, {attention}": [*peer, n, attention] for n, attention in self.forms}

    @staticmethod
    def tokens(item):
        return len(item["tokens"])


class LanguageModel:
    """SmolLM2-135M-Instruct, ours with its weights packed in Q4_1, on 8 definitions a step."""

    name, what, batch, limit = "smollm2-lora", "SmolLM2-135M, LoRA r = 8", 8, 2e-3
    pieces = (8, 2, 1)

    def ours(self, folder, threads):
        return [options.step_server, options.language_model, options.dictionary, folder, threads, 256, BATCHES]

    def peers(self, folder, threads):
        peer = HERE.parent / "language" / "peer.py"
        return {f"{n} at a time, sdpa": [options.python, peer, options.language_model, folder, threads, n] for n in self.pieces}

    @staticmethod
    def tokens(item):
        return len(item["tokens"]) - 1


CASES = {c.name: c for c in (Encoder("lora"), Encoder("full"), LanguageModel())}


def start(case, folder, threads):
    """Ours first: it writes what the others read."""
    folder.mkdir(parents=True, exist_ok=True)
    sides = [Server("loraga", [str(w) for w in case.ours(folder, threads)])]
    sides += [Server(f"PEFT, {name}", [str(w) for w in command]) for name, command in case.peers(folder, threads).items()]
    return sides


def take_turns(sides, rounds):
    for i in range(WARM_UP + rounds):
        first = i % len(sides)
        for side in sides[first:] + sides[:first]:
            side.step()
            time.sleep(PAUSE)
        print(f"  step {i}: " + ", ".join(f"{s.seconds[-1]:.3f}" for s in sides), flush=True)


def require_same_losses(case, sides):
    ours = sides[0]
    apart = max(abs(a / b - 1) for p in sides[1:] for a, b in zip(ours.losses, p.losses))
    if not apart <= case.limit:
        raise RuntimeError(f"{case.name}: the losses are {apart:.2g} apart, more than {case.limit}: {[s.losses for s in sides]}")
    return float(f"{apart:.2g}")


def row(case, side, tokens):
    seconds = side.seconds[WARM_UP:]
    return {"side": side.name, "tokens_per_second": round(statistics.median(n / s for n, s in zip(tokens, seconds)), 1),
            "samples_per_second": round(statistics.median(case.batch / s for s in seconds), 2),
            "step_seconds": round(statistics.median(seconds), 4), "peak_bytes": side.peak_bytes(),
            "seconds": [round(s, 4) for s in seconds]}


def measure(case, threads, rounds):
    print(f"{case.name}, {threads} thread{'s' * (threads > 1)}", flush=True)
    folder = options.work / case.name
    sides = start(case, folder, threads)
    take_turns(sides, rounds)
    apart = require_same_losses(case, sides)
    batches = json.loads((folder / "batches.json").read_text())
    tokens = [sum(map(case.tokens, batches[i % BATCHES])) for i in range(WARM_UP, WARM_UP + rounds)]
    rows = [row(case, s, tokens) for s in sides]
    fastest = max(rows[1:], key=lambda r: r["tokens_per_second"])
    smallest = min(rows[1:], key=lambda r: r["peak_bytes"])

    def ratio(peer):
        return round(statistics.median(b / a for a, b in zip(rows[0]["seconds"], peer["seconds"])), 2)

    found = {"case": case.name, "what": case.what, "threads": threads, "rounds": rounds, "batch": case.batch,
             "mean_tokens_per_step": round(statistics.mean(tokens), 1), "loss_limit": case.limit,
             "largest_relative_loss_difference": apart, "fastest_peer": fastest["side"], "ratio_to_fastest_peer": ratio(fastest),
             "ratio_to_whole_batch": ratio(rows[1]),
             "memory_share_of_smallest_peer": round(rows[0]["peak_bytes"] / smallest["peak_bytes"], 3),
             "memory_share_of_whole_batch": round(rows[0]["peak_bytes"] / rows[1]["peak_bytes"], 3), "sides": rows}
    for r in rows:
        print(f"  {r['side']:<28}{r['tokens_per_second']:>9.1f} tokens/s{r['samples_per_second']:>8.2f} samples/s"
              f"{r['peak_bytes'] / 1e6:>8.0f} MB")
    print(f"  losses {apart:.1e} apart; {found['ratio_to_fastest_peer']} times {fastest['side']}, "
          f"{found['ratio_to_whole_batch']} times the batch at once", flush=True)
    return found


def packages():
    command = [options.python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [p for p in listed.split() if p.split("==")[0] in ("torch", "transformers", "peft")]


def main():
    global options
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("encoder-server", "step-server", "encoder", "snippets", "language-model", "dictionary", "python"):
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--system-python", default="/usr/bin/python3", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, required=True, help="the record to write; its picture goes beside it")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count()}), help="threads of both sides")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES), help="which cases (default: all)")
    parser.add_argument("--rounds", type=int, default=12, help="steps of each side that count")
    options = parser.parse_args()
    record = {"setup": {"command": "bash bench/run.sh training", "date": time.strftime("%Y-%m-%d"), "commit": files.commit(),
                        "machine": files.machine("cpu"), "packages": packages(), "threads": options.threads},
              "rows": [measure(CASES[name], threads, options.rounds) for name in options.models for threads in options.threads]}
    files.replace(options.result, files.json_lines(record))
    picture = [options.system_python, str(HERE / "picture.py"), str(options.result), str(options.result.with_suffix(".png"))]
    subprocess.run(picture, check=True)
    print("written to", options.result)


if __name__ == "__main__":
    main()
