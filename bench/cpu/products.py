"""Bare products of a tall matrix and a narrow one, A*B and AT*B, A 4096 x 4096 and column-major: this library, the first peer's
torch.mm and the machine's floor, in turn (called by compare.py).

Equality comes first: 16 rows of every result against double, |c - exact| at most 1e-6 |a_i| |b_j|; and this library's bits must
not depend on the number of threads. GF/s of ours are of the median run, the peer's of its fastest.
floor_ms = max(operations/peak, bytes/read rate), bytes those of A, B and C once; both rates are the fastest of the sweep.
share_of_square compares with this library's product of two 2048 x 2048 matrices, share_of_floor = floor_ms/ours_ms.
Everything of a sweep takes turns, so that a machine that is slower for a minute is so for all. before_ratio: of the medians.
"""
import hashlib
import os
import random

import numpy as np

from matrix_file import read_matrices, write_matrices
from servers import Peer, Server, settle

SIZE, SQUARE = 4096, 2048
WIDTHS = [8, 12, 16, 24, 32, 48, 64, 96, 128, 256]
SPREADS = [0, 16]  # added to the leading dimension: columns 4096 numbers apart share cache sets, each a page of its own
TURNS, RUNS = 5, 3
TOLERANCE = 1e-6


def make(work):
    """Random operands: their files, A and B in double."""
    rng = np.random.default_rng(SIZE)
    a, b = (rng.standard_normal((SIZE, cols), np.float32) for cols in (SIZE, WIDTHS[-1]))
    files = [os.path.join(work, f"product-{name}") for name in "ab"]
    for path, matrix in zip(files, (a, b)):
        write_matrices(path, matrix)
    return files, a.astype(np.float64), b.astype(np.float64)


def error_of(c, which, a, b):
    """Worst |c - exact|/(|a_i||b_j|) over 16 rows."""
    rows = np.linspace(0, len(a) - 1, 16).astype(int)
    left = a[rows] if which == "ab" else a[:, rows].T
    scale = np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(b, axis=0))
    return float(np.max(np.abs(c[rows] - left @ b) / scale))


class Products:
    """servers: {"ours": Server, "peer": Peer}, and "before" where there is one."""

    def __init__(self, servers, threads, work):
        self.servers, self.threads, self.out = servers, threads, os.path.join(work, "product")
        self.files, self.a, self.b = make(work)
        self.digests, self.misses = {}, []

    def check(self, side, which, width, extra):
        """The error; keeps a digest of our bits."""
        self.servers[side]("product", which, width, 1, self.out)
        c = read_matrices(self.out)[0]
        error = error_of(c, which, self.a, self.b[:, :width])
        if not error <= TOLERANCE:  # not a number misses as well
            self.misses.append(f"{side} {which} {width}: error {error:.1e}")
        if side == "ours":
            self.digests[which, width, extra] = hashlib.sha256(c.tobytes("F")).hexdigest()
        return error

    def times(self, calls):
        """{call: every run's answer}, calls = {name: (side, words)}, in turn."""
        found = {call: [] for call in calls}
        for turn in range(TURNS):
            order = list(calls)
            random.Random(turn).shuffle(order)
            for call in order:
                if self.threads > 1:
                    settle(self.servers.values())
                side, words = calls[call]
                found[call] += self.servers[side].numbers(*words)
        return found

    def sweep(self, extra):
        """What the machine can do and a row for each product, with columns of A that are SIZE + extra numbers apart."""
        for server in self.servers.values():
            server("operands", *self.files, SIZE + extra)
        every = [(side, which, width) for width in WIDTHS for which in ("ab", "atb") for side in self.servers]
        errors = {call: self.check(*call, extra) for call in every}
        calls = {call: (call[0], ("product", *call[1:], RUNS, os.devnull)) for call in every}
        calls |= {"square": ("ours", ("square", SQUARE, 1)), "peer square": ("peer", ("square", SQUARE, 1)),
                  "peak": ("ours", ("peak", RUNS)), "read": ("ours", ("read", RUNS))}
        found, square = self.times(calls), 2e-6 * SQUARE ** 3
        can = {"threads": self.threads, "leading_dimension": SIZE + extra, "peak_gflops": max(found["peak"]),
               "read_gbs": max(found["read"]), "square_gflops": square / float(np.median(found["square"])),
               "peer_square_gflops": square / min(found["peer square"])}
        return rounded(can), [self.row(which, width, can, {side: found[side, which, width] for side in self.servers},
                                       {side: errors[side, which, width] for side in self.servers})
                              for width in WIDTHS for which in ("ab", "atb")]

    @staticmethod
    def row(which, width, can, times, errors):
        flops, moved = 2 * SIZE * SIZE * width, 4 * SIZE * (SIZE + 2 * width)
        ms = {"ours": float(np.median(times["ours"])), "peer": min(times["peer"]),
              "floor": 1e-6 * max(flops / can["peak_gflops"], moved / can["read_gbs"])}
        row = {"product": which, "width": width, **{key: can[key] for key in ("leading_dimension", "threads")},
               **{f"{side}_ms": t for side, t in ms.items()}, **{f"{side}_gflops": 1e-6 * flops / t for side, t in ms.items()},
               "ratio": ms["peer"] / ms["ours"], "share_of_floor": ms["floor"] / ms["ours"]}
        row["share_of_square"] = row["ours_gflops"] / can["square_gflops"]
        if "before" in times:
            row["before_ms"] = float(np.median(times["before"]))
            row["before_ratio"] = row["before_ms"] / ms["ours"]
        return {**rounded(row), "ours_error": errors["ours"], "peer_error": errors["peer"]}


def rounded(record):
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in record.items()}


COLUMNS = {"product": (8, ""), "width": (6, ""), "leading_dimension": (18, ""), "threads": (8, ""), "ours_gflops": (12, ".1f"),
           "peer_gflops": (12, ".1f"), "floor_gflops": (13, ".1f"), "ratio": (6, ".2f"), "share_of_square": (16, ".2f"),
           "share_of_floor": (15, ".2f"), "before_ratio": (13, ".2f")}


def measure(args, counts):
    """The record, and what missed."""
    result, misses, digests = {"limits": [], "rows": []}, [], {}
    if args.before_products:
        result["before"] = args.before_name
    for threads in counts:
        servers = {"ours": Server(args.products, threads), "peer": Peer(next(iter(args.peers.values())), threads)}
        if args.before_products:
            servers["before"] = Server(args.before_products, threads)
        bench = Products(servers, threads, args.work)
        for extra in SPREADS:
            can, rows = bench.sweep(extra)
            result["limits"].append(can)
            result["rows"] += rows
            print(can)
            print("".join(name.rjust(width) for name, (width, _) in COLUMNS.items()))
            for row in rows:
                words = (f"{row[name]:>{width}{kind}}" for name, (width, kind) in COLUMNS.items() if name in row)
                print("".join(words), flush=True)
        misses += bench.misses
        for case, digest in bench.digests.items():
            if digests.setdefault(case, digest) != digest:
                misses.append(f"bits of {case} change with {threads} threads")
        for server in servers.values():
            server.close()
    result["same_bits_on_threads"] = counts if not any(m.startswith("bits") for m in misses) else []
    return result, misses
