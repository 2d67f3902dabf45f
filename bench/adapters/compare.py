"""Compares this library's adapters on the CPU with torch autograd and with huggingface/peft's layers: same run, same data,
in turn. bench/run.sh adapters sets everything up and calls it.

Two comparisons. "adapter": the adapter's part alone, y = W*x given, against plain torch functions and autograd. "layer": the
products W*x and WT*d as well, ours by our own product, against peft's layer around nn.Linear.
Equality comes first: outputs, dX and the gradients of every trained matrix must agree with each peer's, and after one AdamW
step the values: the Frobenius norm of the difference over that of the peer's, at most 2e-5 (5e-4 after the step, whose first
move of an entry is the rate times the sign of its gradient, whatever its size). A miss ends with status 1.
Times are medians of runs in turn; ratio = peer/ours. AdamW of torch runs plain and fused, and the faster counts.
Floors: bytes that must move by this machine's measured speed of reading and of rewriting in place, and multiply-adds by its
measured speed; the larger is the floor. above_floor = ours/floor.
to_lora: the median over rounds of a method's forward+backward by LoRA's in the same round; to_lora_floor: their floors'.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import time

import numpy as np

SHAPES = ["4096x4096", "11008x4096", "768x768", "384x384"]  # out x in
RANKS = [8, 16, 64]
METHODS = ["lora", "dora", "adalora"]
TOKENS = 2048
LAYER_RANK = 16  # of the comparison of whole layers: their time hardly depends on it
SCALE = 2.0
RATE = 1e-4
TOLERANCE, STEP_TOLERANCE = 2e-5, 5e-4
PARTS = ("forward", "backward", "step")
PAUSE = 0.03  # seconds between turns, in which the threads of the side before go to sleep


class Server:
    def __init__(self, program, threads):
        self.process = subprocess.Popen([program, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"the adapter server ended at: {' '.join(map(str, words))}")
        numbers = [float(n) for n in answer.split()]
        return numbers[0] if len(numbers) == 1 else numbers


def write_matrix(path, rows):
    """A row-major array as the server reads it: the same memory, columns and rows exchanged."""
    with open(path, "wb") as out:
        np.array(rows.shape[::-1], np.int32).tofile(out)
        np.ascontiguousarray(rows, np.float32).tofile(out)


def read_matrices(path):
    found, data = [], open(path, "rb").read()
    while data:
        rows, cols = np.frombuffer(data, np.int32, 2)
        end = 8 + 4 * int(rows) * int(cols)
        found.append(np.frombuffer(data[8:end], np.float32).reshape(cols, rows))
        data = data[end:]
    return found


def timed(function):
    began = time.perf_counter()
    result = function()
    return 1e3 * (time.perf_counter() - began), result


class Layer:
    """The numbers of one shape and rank, for both sides."""

    def __init__(self, out, inner, rank, folder, torch):
        draw = np.random.default_rng([out, inner, rank]).standard_normal
        self.out, self.inner, self.rank = out, inner, rank
        w, x, dy = draw((out, inner)) / np.sqrt(inner), draw((TOKENS, inner)), draw((TOKENS, out)) / TOKENS
        a, b = 0.5 * draw((rank, inner)) / np.sqrt(inner), 0.2 * draw((out, rank)) / np.sqrt(rank)
        e = 1 + 0.2 * draw((1, rank))
        self.arrays = {"w": w, "x": x, "dy": dy, "a": a, "b": b, "e": e}
        self.tensors = {name: torch.from_numpy(v.astype(np.float32)) for name, v in self.arrays.items()}
        t = self.tensors
        t["base"] = t["x"] @ t["w"].T
        t["g"] = (torch.linalg.norm(t["w"] + SCALE * t["b"] @ t["a"], dim=1) * (1 + 0.1 * torch.rand(out)))[None]
        os.makedirs(folder, exist_ok=True)
        for name, tensor in t.items():
            write_matrix(os.path.join(folder, name), tensor.numpy())
        t["e"], t["g"] = t["e"].T.contiguous(), t["g"][0]


class Autograd:
    """A method's adapter in plain torch functions: y from base = W*x."""

    def __init__(self, torch, method, layer):
        self.torch, self.method, self.layer = torch, method, layer
        names = {"lora": "ab", "dora": "abg", "adalora": "abe"}[method]
        self.trained = [layer.tensors[n].clone().requires_grad_() for n in names]
        self.x = layer.tensors["x"].clone().requires_grad_()
        self.steppers = steppers(torch, self.trained)

    def forward(self):
        t, torch = self.layer.tensors, self.torch
        a, b = self.trained[:2]
        if self.method == "adalora":
            a = a * self.trained[2]
        self.y = torch.addmm(t["base"], self.x @ a.T, b.T, alpha=SCALE)
        if self.method == "dora":
            with torch.no_grad():
                norm = torch.linalg.norm(torch.addmm(t["w"], b, a, alpha=SCALE), dim=1)
            self.y = self.y * (self.trained[2] / norm)

    def clear(self):
        for p in (self.x, *self.trained):
            p.grad = None

    def backward(self):
        self.y.backward(self.layer.tensors["dy"])

    def results(self):
        return [v.detach().numpy() for v in (self.y, self.x.grad, *(p.grad for p in self.trained))]

    def values(self):
        return [p.detach().numpy() for p in self.trained]


class PeftLayer(Autograd):
    """peft's layer around nn.Linear; the frozen W gets no gradient."""

    def __init__(self, torch, method, layer):
        from peft import AdaLoraConfig, LoraConfig
        from peft.tuners.adalora.layer import SVDLinear
        from peft.tuners.lora.layer import Linear

        self.torch, self.method, self.layer = torch, method, layer
        t, r = layer.tensors, layer.rank
        base = torch.nn.Linear(layer.inner, layer.out, bias=False)
        base.weight.data = t["w"]
        base.weight.requires_grad_(False)
        if method == "adalora":  # its scale is alpha/(r + 1e-5)
            config = AdaLoraConfig(init_r=r, target_r=r, lora_alpha=SCALE * (r + 1e-5), total_step=10)
            self.module = SVDLinear(base, "default", config, r=r, lora_alpha=SCALE * (r + 1e-5))
            self.trained = [self.module.lora_A["default"], self.module.lora_B["default"], self.module.lora_E["default"]]
        else:
            config = LoraConfig(r=r, lora_alpha=int(SCALE * r), use_dora=method == "dora")
            self.module = Linear(base, "default", config, r=r, lora_alpha=int(SCALE * r))
            self.trained = [self.module.lora_A["default"].weight, self.module.lora_B["default"].weight]
            if method == "dora":
                self.trained.append(self.module.lora_magnitude_vector["default"].weight)
        for p, name in zip(self.trained, {"lora": "ab", "dora": "abg", "adalora": "abe"}[method]):
            p.data.copy_(t[name])
            p.requires_grad_(True)
        self.module.train()
        self.x = t["x"].clone().requires_grad_()
        self.steppers = steppers(torch, self.trained)

    def forward(self):
        self.y = self.module(self.x)


def steppers(torch, trained):
    """AdamW, plain and fused, over copies, so that timing one does not move the other."""
    copies = [[torch.nn.Parameter(p.detach().clone()) for p in trained] for _ in range(2)]
    return [(c, torch.optim.AdamW(c, lr=RATE, weight_decay=0, fused=fused)) for c, fused in zip(copies, (False, True))]


def step(side):
    """Milliseconds of the faster AdamW, and the values after its step."""
    best = None
    for copies, optimiser in side.steppers:
        for c, p in zip(copies, side.trained):
            c.grad = p.grad
        spent, _ = timed(optimiser.step)
        if best is None or spent < best[0]:
            best = spent, [c.detach().numpy() for c in copies]
    return best


def distance(ours, theirs):
    theirs = theirs.reshape(ours.shape).astype(np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def floors(method, row, limits):
    """Milliseconds of forward and backward by memory and by arithmetic."""
    reading, updating, arithmetic = limits
    out, inner, r = row["out"], row["in"], row["rank"]
    x, y = 4 * TOKENS * inner, 4 * TOKENS * out
    factors = 4 * r * (out + inner)
    read = {"forward": x + factors, "backward": x + y + factors}
    updated = {"forward": 2 * y, "backward": 2 * x + 2 * factors}  # each read and written
    flops = {"forward": 2 * TOKENS * r * (out + inner), "backward": 4 * TOKENS * r * (out + inner)}
    if method == "dora":  # reads W for its row norms, keeps W*x + s*B*A*x, and returns another dY
        read["forward"] += 4 * out * inner
        updated["forward"] += 2 * y
        updated["backward"] += 2 * y  # that dY over what was kept
        flops["forward"] += 2 * out * inner * r
    return {part: (1e-6 * (read[part] / reading + updated[part] / updating), 1e-6 * flops[part] / arithmetic) for part in read}


class Bench:
    def __init__(self, args):
        import torch

        torch.set_num_threads(args.threads)
        self.torch, self.args, self.limits = torch, args, []
        self.server = Server(args.server, args.threads)
        self.out = os.path.join(args.work, "results")
        self.rows, self.misses = [], []

    def equal(self, name, method, side, whole):
        """Worst distances of results and of stepped values."""
        prefix = "whole_" if whole else ""
        for part in ("forward", "backward"):
            self.server(method, prefix + part)
        side.clear()
        side.forward()
        side.backward()
        self.server(method, "write", self.out)
        worst = max(map(distance, read_matrices(self.out), side.results()))
        stepped = None
        if not whole:
            self.server(method, "step")
            self.server(method, "values", self.out)
            _, values = step(side)
            stepped = max(map(distance, read_matrices(self.out), values))
        if worst > TOLERANCE or (stepped or 0) > STEP_TOLERANCE:
            self.misses.append(f"{name} {method}: {worst:.1e}, {stepped or 0:.1e}")
        return worst, stepped

    def compare(self, layer, whole):
        """All methods of one layer, ours and the peer's in turn."""
        prefix, kind = ("whole_", "layer") if whole else ("", "adapter")
        name = f"{layer.out}x{layer.inner} r{layer.rank}"
        peers = {m: (PeftLayer if whole else Autograd)(self.torch, m, layer) for m in self.args.methods}
        equality = {m: self.equal(name, m, peers[m], whole) for m in peers}
        sides = [(s, m) for m in peers for s in ("ours", "peer")]
        parts = PARTS[:2] if whole else PARTS
        times = {(s, m, p): [] for s, m in sides for p in parts}
        repeats, began = 0, time.perf_counter()
        while repeats < (3 if whole else 5) or (repeats < 51 and time.perf_counter() - began < self.args.seconds):
            order = list(sides)
            random.Random(repeats).shuffle(order)  # who comes after whom must not matter
            for s, m in order:
                if self.args.threads > 1:
                    time.sleep(PAUSE)
                for part in parts:
                    times[s, m, part].append(self.server(m, prefix + part) if s == "ours" else self.peer(peers[m], part))
            repeats += 1
        for m in peers:
            self.record(kind, layer, m, times, parts, equality[m], repeats)

    def peer(self, side, part):
        if part == "step":
            return step(side)[0]
        if part == "backward":
            side.clear()
        return timed(getattr(side, part))[0]

    def record(self, kind, layer, method, times, parts, equality, repeats):
        row = {"kind": kind, "method": method, "out": layer.out, "in": layer.inner, "rank": layer.rank,
               "threads": self.args.threads, "tokens": TOKENS, "difference": equality[0], "repeats": repeats}
        if equality[1] is not None:
            row["difference_after_step"] = equality[1]
        total = {s: np.add(times[s, method, "forward"], times[s, method, "backward"]) for s in ("ours", "peer")}
        for part in parts:
            ours, peer = (float(np.median(times[s, method, part])) for s in ("ours", "peer"))
            row[part] = {"ours_ms": round(ours, 4), "peer_ms": round(peer, 4), "ratio": round(peer / ours, 3),
                         "ours_fastest_ms": round(min(times["ours", method, part]), 4),
                         "peer_fastest_ms": round(min(times["peer", method, part]), 4)}
        ours, peer = (float(np.median(total[s])) for s in ("ours", "peer"))
        row["passes"] = {"ours_ms": round(ours, 4), "peer_ms": round(peer, 4), "ratio": round(peer / ours, 3),
                         "ours_fastest_ms": round(float(min(total["ours"])), 4),
                         "peer_fastest_ms": round(float(min(total["peer"])), 4)}
        if "lora" in self.args.methods:
            lora = np.add(times["ours", "lora", "forward"], times["ours", "lora", "backward"])
            row["to_lora"] = round(float(np.median(total["ours"] / lora)), 3)
        self.rows.append(row)
        cells = "".join(f"{row[p]['ours_ms']:>9.2f}{row[p]['peer_ms']:>9.2f}{row[p]['ratio']:>6.2f}" for p in parts)
        cells += " " * (24 * (3 - len(parts)))
        print(f"{kind:<8}{method:<8}{layer.out:>6}x{layer.inner:<5}{layer.rank:>4}{self.args.threads:>3}{cells}"
              f"{row['passes']['ratio']:>7.2f}{row.get('to_lora', 0):>7.2f}"
              f"{equality[0]:>9.0e}", flush=True)

    def add_floors(self):
        """To the adapters' rows, by the best limits seen while all of it ran."""
        self.limits = np.max(self.limits, axis=0).tolist()
        for row in self.rows:
            if row["kind"] != "adapter":
                continue
            floor, lora = (floors(method, row, self.limits) for method in (row["method"], "lora"))
            row["floor"] = {p: {"memory_ms": round(a, 4), "arithmetic_ms": round(b, 4)} for p, (a, b) in floor.items()}
            least = sum(map(max, floor.values()))
            row["above_floor"] = round(row["passes"]["ours_ms"] / least, 3)
            row["to_lora_floor"] = round(least / sum(map(max, lora.values())), 3)

    def run(self):
        for shape in self.args.shapes:
            out, inner = map(int, shape.split("x"))
            for rank in self.args.ranks:
                folder = os.path.join(self.args.work, "layer")
                layer = Layer(out, inner, rank, folder, self.torch)
                self.limits.append(self.server("limits"))
                self.server("layer", folder, rank, SCALE)
                self.compare(layer, False)
                if rank == LAYER_RANK:
                    self.server("layer", folder, rank, SCALE)  # as it was before any step
                    self.compare(layer, True)


def worker(args):
    bench = Bench(args)
    bench.run()
    bench.add_floors()
    with open(args.result, "w") as out:
        json.dump({"limits": bench.limits, "rows": bench.rows, "misses": bench.misses}, out)


def machine(args, counts):
    import peft
    import torch

    found = open("/proc/cpuinfo").read().split("\n")
    model = next((l.split(":")[1].strip() for l in found if l.startswith("model name")), "unknown")
    flags = next((l for l in found if l.startswith("flags")), "")
    blas = next((l.strip(" -\n") for l in torch.__config__.show().split("\n") if "Math Kernel Library" in l), "no MKL")
    return {"cpu": model, "cores": os.cpu_count(), "avx512": " avx512f" in flags, "threads": counts,
            "date": time.strftime("%Y-%m-%d"), "peer": f"torch {torch.__version__}, peft {peft.__version__}", "peer_blas": blas,
            "ours_blas": "none: the library's and Eigen's kernels"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="the program adapter_server")
    parser.add_argument("--work", required=True, help="folder for matrices")
    parser.add_argument("--result", required=True, help="file to write")
    parser.add_argument("--threads", type=int, help="threads of all sides (default: one, then all cores)")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="OUTxIN")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seconds", type=float, default=4, help="time for one comparison, if five rounds take less")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    os.makedirs(args.work, exist_ok=True)
    counts = [args.threads] if args.threads else sorted({1, os.cpu_count()})
    result = {"command": "bash bench/run.sh adapters", "machine": machine(args, counts), "limits": {}, "rows": []}
    misses = []
    for threads in counts:
        # a process of its own, whose libraries read the number of threads when they start
        print(f"{'':<8}{'':<8}{'out x in':>12}{'r':>4}{'thr':>3}"
              + "".join(f"{p:>9}{'peer':>9}{'ratio':>6}" for p in PARTS) + f"{'passes':>7}{'/LoRA':>7}{'equal':>9}")
        part = os.path.join(args.work, f"rows-{threads}.json")
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        command = [sys.executable, __file__, "--worker", "--threads", str(threads), "--server", args.server, "--work", args.work,
                   "--result", part, "--seconds", str(args.seconds), "--shapes", *args.shapes,
                   "--ranks", *map(str, args.ranks), "--methods", *args.methods]
        subprocess.run(command, env=environment, check=True)
        found = json.load(open(part))
        result["rows"] += found["rows"]
        result["limits"][threads] = dict(zip(("reading_gb_s", "updating_gb_s", "gflop_s"), found["limits"]))
        limits = "reading {:.1f} GB/s, rewriting {:.1f} GB/s, {:.0f} GFLOP/s".format(*found["limits"])
        print(f"{threads} thread{'s' * (threads > 1)}: {limits}; above the floor: "
              + ", ".join(f"{m} {min(a):.2f} to {max(a):.2f}" for m in args.methods
                          if (a := [r["above_floor"] for r in found["rows"] if r["method"] == m and r["kind"] == "adapter"])))
        misses += found["misses"]
    with open(args.result, "w") as out:
        json.dump(result, out, indent=1)
        out.write("\n")
    print("written to", args.result)
    if misses:
        sys.exit("not equal: " + "; ".join(misses))


if __name__ == "__main__":
    main()
