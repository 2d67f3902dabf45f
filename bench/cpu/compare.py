"""Compares this library's truncated SVDs on the CPU with torch.svd_lowrank(G, q=4r, niter=4), which LoRA-GA's authors
and huggingface/peft call: same run, same matrices, in turn. bench/run.sh cpu sets everything up and calls it.

Quality comes first. loss = 1 - captured/optimal energy of the 2r leading triplets, the worse of U and V, the worst over
the measured seeds, both sides by the same code. "tight" must not lose more than 1.2 times what the peer loses (or 2e-6),
"balanced" not more than 1e-3; U and V must be orthonormal to 1e-5. A miss ends with status 1.
peer_ms is the peer's fastest run, ours_ms our median: ratio = peer_ms/ours_ms. With several threads the peer runs with
all of them and with one, since more are not always faster for it, and the faster counts.
With --before, another build of the server takes its turns too: before_ratio is the median over rounds of its time by
ours in the same round.
"""
import argparse
import ctypes
import glob
import json
import os
import platform
import random
import subprocess
import sys
import time

import numpy as np

import spectra

SHAPES = [(4096, 4096), (3072, 768), (768, 768)]
RANKS = [8, 32, 128]
STREAM = [(8, 0), (8, 1), (32, 0), (32, 1)]  # rank, power steps
MICRO = 512  # tokens per micro-batch of the streaming rows
BEFORE = " before"


class Server:
    def __init__(self, program, threads):
        self.process = subprocess.Popen([program, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("svd_server ended: " + " ".join(map(str, words)))
        return float(answer)


def read_matrices(path):
    raw, matrices = open(path, "rb").read(), []
    while raw:
        rows, cols = np.frombuffer(raw, np.int32, 2)
        end = 8 + 4 * int(rows) * int(cols)
        matrices.append(np.frombuffer(raw[8:end], np.float32).reshape(cols, rows).T)
        raw = raw[end:]
    return matrices


def judge(batch, factors, k):
    """Worst loss and worst deviation from orthonormality over a batch. factors: u, v of each matrix."""
    loss = deviation = 0.0
    for (g, energies), (u, v) in zip(batch, factors):
        best = energies[:k].sum()
        for matrix, q in ((g.T, u), (g, v)):
            q = q[:, :k].astype(np.float64)
            loss = max(loss, 1 - ((matrix @ q) ** 2).sum() / best)
            deviation = max(deviation, np.abs(q.T @ q - np.eye(k)).max())
    return loss, deviation


class Bench:
    def __init__(self, server, before, threads, work):
        import torch

        self.torch, self.server, self.before, self.threads, self.work = torch, server, before, threads, work
        self.blas = openblas()
        self.out = os.path.join(work, "factors")
        self.rows, self.misses = [], []

    def peer(self, seed, rank, make_tensors):
        """The faster of all threads and one; forming the tensors counts as well."""
        best = float("inf")
        for threads in {self.threads, 1}:
            self.torch.set_num_threads(threads)
            self.blas.openblas_set_num_threads(threads)
            self.torch.manual_seed(seed)
            start = time.perf_counter()
            factors = [self.torch.svd_lowrank(t, q=min(4 * rank, *t.shape), niter=4) for t in make_tensors()]
            best = min(best, 1e3 * (time.perf_counter() - start))
        return best, [(u.numpy(), v.numpy()) for u, _, v in factors]

    def tell(self, *words):
        for server in filter(None, (self.server, self.before)):
            server(*words)

    def ours(self, server, *words):
        spent = server(*words, self.out)
        flat = read_matrices(self.out)
        return spent, list(zip(flat[::2], flat[1::2]))

    def sides(self, peer, commands):
        """The peer and what each of our sides is asked for a seed; its older self, if any, right after it."""
        all_sides = {"peer": peer}
        for name, words in commands.items():
            all_sides[name] = lambda seed, w=words: self.ours(self.server, *w(seed))
            if self.before:
                all_sides[name + BEFORE] = lambda seed, w=words: self.ours(self.before, *w(seed))
        return all_sides

    def measure(self, name, batch, k, sides, limits, extra):
        """sides: {name: function(seed) -> (ms, factors)}, "peer" first; limits: {name: function(peer's loss) -> limit}."""
        times, loss, deviation = {s: [] for s in sides}, dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0.0)
        for side in sides:
            sides[side](0)  # warm
        repeats = 0
        began = time.perf_counter()
        while repeats < 5 or (repeats < 101 and time.perf_counter() - began < 4):
            order = list(sides.items())
            random.Random(repeats).shuffle(order)  # who comes after whom must not matter
            for side, call in order:
                spent, factors = call(repeats + 1)
                times[side].append(spent)
                if repeats < 3:
                    l, d = judge(batch, factors, k)
                    loss[side], deviation[side] = max(loss[side], l), max(deviation[side], d)
            repeats += 1
        peer_ms, (m, n) = min(times["peer"]), batch[0][0].shape
        for side in limits:
            ours_ms, limit = float(np.median(times[side])), limits[side](loss["peer"])
            row = {"name": f"{name}-{side}", "m": m, "n": n, "rank": k // 2, "threads": self.threads, "count": len(batch),
                   "peer_ms": round(peer_ms, 3), "ours_ms": round(ours_ms, 3), "ratio": round(peer_ms / ours_ms, 3),
                   "peer_loss": loss["peer"], "ours_loss": loss[side], "loss_limit": limit,
                   "orthonormality": deviation[side], "peer_median_ms": round(float(np.median(times["peer"])), 3),
                   "ours_fastest_ms": round(min(times[side]), 3), "repeats": repeats, **extra}
            if side + BEFORE in times:
                row["before_ms"] = round(float(np.median(times[side + BEFORE])), 3)
                row["before_ratio"] = round(float(np.median(np.divide(times[side + BEFORE], times[side]))), 3)
            held = loss[side] <= limit and deviation[side] <= 1e-5
            row["gate"] = "held" if held else "missed"
            self.rows.append(row)
            if not held:
                self.misses.append(row["name"])
            print(f"{row['name']:<34}{row['threads']:>3}{peer_ms:>10.2f}{ours_ms:>10.2f}{row['ratio']:>8.2f}"
                  f"{loss['peer']:>11.1e}{loss[side]:>11.1e}  {row['gate']}"
                  + (f"{row['before_ratio']:>8.3f}" if self.before else ""), flush=True)

    def svd_case(self, name, paths, rank, extra={}):
        batch = []
        for path in paths:
            g = read_matrices(path)[0].astype(np.float64)
            batch.append((g, np.load(path + ".npy")))
        tensors = [self.torch.from_numpy(np.ascontiguousarray(g.astype(np.float32))) for g, _ in batch]
        self.tell("load", *paths)

        sides = self.sides(lambda seed: self.peer(seed, rank, lambda: tensors),
                           {q: lambda seed, q=q: ("run", q, 2 * rank, seed) for q in ("balanced", "tight")})
        limits = {"balanced": lambda _: 1e-3, "tight": lambda p: max(1.2 * p, 2e-6)}
        self.measure(name, batch, 2 * rank, sides, limits, extra)

    def stream_case(self, path, rank, power):
        """From activations and output gradients: the peer forms the gradient, we do not."""
        g = read_matrices(path)[0].astype(np.float64)
        x, dy = (np.ascontiguousarray(read_matrices(path + end)[0].T) for end in (".x", ".dy"))  # tokens x features
        tx, tdy = self.torch.from_numpy(x), self.torch.from_numpy(dy)
        self.tell("tokens", path + ".x", path + ".dy")

        def formed():
            total = self.torch.zeros(g.shape)
            for first in range(0, len(x), MICRO):
                total.addmm_(tdy[first:first + MICRO].T, tx[first:first + MICRO])
            return [total]

        sides = self.sides(lambda seed: self.peer(seed, rank, formed),
                           {"incremental": lambda seed: ("stream", rank, 0, power, MICRO, seed)})
        limit = 1e-2 if power == 0 else 2e-3  # what loraga/gradient/incremental.hpp promises
        self.measure(f"stream-{g.shape[0]}x{g.shape[1]}-r{rank}-power{power}", [(g, np.load(path + ".npy"))], 2 * rank,
                     sides, {"incremental": lambda _: limit},
                     {"tokens": len(x), "micro_batch": MICRO})


def openblas():
    """The OpenBLAS this process multiplies with; ends the run if it is another BLAS."""
    import torch

    torch.rand(8, 8) @ torch.rand(8, 8)
    loaded = sorted({line.split()[-1] for line in open("/proc/self/maps") if "blas" in line.lower() and "/" in line})
    found = [p for p in map(os.path.realpath, loaded) if "openblas" in p]
    if not found:
        sys.exit(f"torch multiplies with {loaded}, not with OpenBLAS; install libopenblas0-pthread")
    library = ctypes.CDLL(found[0])
    library.openblas_get_corename.restype = ctypes.c_char_p
    library.name = "/".join(found[0].split("/")[-2:])
    return library


def machine(threads_list):
    import torch

    blas = openblas()
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    flags = next((l for l in open("/proc/cpuinfo") if l.startswith("flags")), "")
    return {"cpu": cpu, "cores": os.cpu_count(), "avx512": " avx512f" in flags, "threads": threads_list,
            "date": time.strftime("%Y-%m-%d"), "peer": f"torch {torch.__version__}",
            "peer_blas": f"{blas.name}, kernel {blas.openblas_get_corename().decode()}",
            "ours_blas": "none: the library's and Eigen's kernels",
            "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", "not set")}


def worker(args):
    server, before = (Server(program, args.threads) if program else None for program in (args.server, args.before))
    bench = Bench(server, before, args.threads, args.work)
    for rank in args.ranks:
        for kind in ("pl1n", "pl05", "tok"):
            for m, n in SHAPES:
                if 4 * rank <= min(m, n):
                    bench.svd_case(f"{kind}-{m}x{n}-r{rank}", [os.path.join(args.work, f"{kind}-{m}x{n}")], rank)
    for rank, power in STREAM:
        if rank in args.ranks:
            bench.stream_case(os.path.join(args.work, "tok-4096x4096"), rank, power)
    if 8 in args.ranks:
        shapes = {}
        for path in sorted(glob.glob(os.path.join(args.work, "real", "*.f32"))):
            shapes.setdefault(tuple(np.fromfile(path, np.int32, 2)), []).append(path)
        for (m, n), paths in shapes.items():
            bench.svd_case(f"vit-{m}x{n}-r{min(8, m // 2, n // 2)}", paths, min(8, m // 2, n // 2))
    with open(args.result, "w") as out:
        json.dump({"rows": bench.rows, "misses": bench.misses}, out)


def prepare(args):
    for m, n in SHAPES:
        for kind in ("pl1n", "pl05", "tok"):
            path = os.path.join(args.work, f"{kind}-{m}x{n}")
            if not os.path.exists(path + ".npy"):
                print("making", os.path.basename(path), flush=True)
                spectra.make_file(kind, m, n, path)
    for path in glob.glob(os.path.join(args.work, "real", "*.f32")):
        np.save(path + ".npy", spectra.leading_energies(read_matrices(path)[0].astype(np.float64), 256))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="the program svd_server")
    parser.add_argument("--before", help="the same program of another commit, to take turns with")
    parser.add_argument("--before-name", help="that commit, for the record")
    parser.add_argument("--work", required=True, help="folder for matrices")
    parser.add_argument("--result", required=True, help="file to write")
    parser.add_argument("--threads", type=int, help="threads of both sides (default: one, then all cores)")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    os.makedirs(args.work, exist_ok=True)
    prepare(args)
    counts = [args.threads] if args.threads else sorted({1, os.cpu_count()})
    result = {"command": "bash bench/run.sh cpu", "machine": machine(counts), "rows": []}
    if args.before:
        result["before"] = args.before_name
    print(f"{'case':<34}{'thr':>3}{'peer ms':>10}{'ours ms':>10}{'ratio':>8}{'peer loss':>11}{'our loss':>11}  gate"
          + ("  before/now" if args.before else ""))
    misses = []
    for threads in counts:
        # a process of its own, whose BLAS reads the number of threads when it starts
        part = os.path.join(args.work, f"rows-{threads}.json")
        environment = dict(os.environ, OPENBLAS_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
        command = [sys.executable, __file__, "--worker", "--threads", str(threads), "--server", args.server, "--work", args.work,
                   "--result", part, "--ranks", *map(str, args.ranks)]
        command += ["--before", args.before] if args.before else []
        subprocess.run(command, env=environment, check=True)
        found = json.load(open(part))
        result["rows"] += found["rows"]
        misses += found["misses"]
    with open(args.result, "w") as out:
        json.dump(result, out, indent=1)
        out.write("\n")
    with open(os.path.join(args.work, "ratios.csv"), "w") as out:
        for row in result["rows"]:
            out.write(f"{row['name']},{row['threads']},{row['name'].split('-')[-1]},{row['rank']},{row['m']},{row['ratio']}\n")
    print("written to", args.result)
    if misses:
        sys.exit("quality gate missed: " + ", ".join(misses))


if __name__ == "__main__":
    main()
