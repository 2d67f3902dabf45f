"""Truncated SVDs of this library and of its peers in turn, on the same matrices, judged by the same code (see compare.py)."""
import os
import random
import sys
import time

import numpy as np

from matrix_file import read_matrices
from servers import Peer, settle

MICRO = 512  # tokens per micro-batch of the streaming rows
BEFORE = " before"
JUDGED = 3  # rounds
SECONDS = 3  # a case's, after five rounds


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
    """peers: {name: Peer}; gates and `ratio` are the first one's. Default: the torch of this Python."""

    def __init__(self, server, before, threads, work, peers=None):
        self.server, self.before, self.threads, self.work = server, before, threads, work
        self.peers = peers or {"torch": Peer(sys.executable, threads)}
        self.out = os.path.join(work, "factors")
        self.rows, self.misses = [], []

    def tell(self, ours, peers):
        for server in filter(None, (self.server, self.before)):
            server(*ours)
        for peer in self.peers.values():
            peer(*peers)

    def sides(self, peer_command, commands):
        """{name: (server, function from seed to words)} of the peers and of what each of our sides is asked; the older self of a
        side, if any, right after it."""
        every = {name: (peer, peer_command) for name, peer in self.peers.items()}
        for name, words in commands.items():
            every[name] = (self.server, words)
            if self.before:
                every[name + BEFORE] = (self.before, words)
        return every

    def take_turns(self, batch, k, sides):
        """{side: times in ms}, {side: worst loss}, {side: worst deviation}"""
        times, loss, deviation = {s: [] for s in sides}, dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0.0)
        servers = {server for server, _ in sides.values()}
        for server, words in sides.values():
            server(*words(0), os.devnull)  # warm
        began = time.perf_counter()
        for turn in range(101):
            if turn >= 5 and time.perf_counter() - began > SECONDS:
                break
            order = list(sides)
            random.Random(turn).shuffle(order)  # who comes after whom must not matter
            for side in order:
                if self.threads > 1 or turn < JUDGED:  # judging has threads as well
                    settle(servers)
                server, words = sides[side]
                times[side].append(server(*words(turn + 1), self.out if turn < JUDGED else os.devnull))
                if turn < JUDGED:
                    flat = read_matrices(self.out)
                    l, d = judge(batch, list(zip(flat[::2], flat[1::2])), k)
                    loss[side], deviation[side] = max(loss[side], l), max(deviation[side], d)
        return times, loss, deviation

    def measure(self, name, batch, k, sides, limits, extra):
        """limits: {our side: function from the first peer's loss to the limit}"""
        times, loss, deviation = self.take_turns(batch, k, sides)
        (m, n), headline = batch[0][0].shape, next(iter(self.peers))
        for side in limits:
            ours_ms, limit = float(np.median(times[side])), limits[side](loss[headline])
            peers = {p: {"ms": round(min(times[p]), 3), "median_ms": round(float(np.median(times[p])), 3),
                         "ratio": round(min(times[p]) / ours_ms, 3), "loss": loss[p]} for p in self.peers}
            held = loss[side] <= limit and deviation[side] <= 1e-5
            row = {"name": f"{name}-{side}", "m": m, "n": n, "rank": k // 2, "threads": self.threads, "count": len(batch),
                   "peer_ms": peers[headline]["ms"], "ours_ms": round(ours_ms, 3), "ratio": peers[headline]["ratio"],
                   "peer_loss": loss[headline], "ours_loss": loss[side], "loss_limit": limit, "orthonormality": deviation[side],
                   "peers": peers, "ours_fastest_ms": round(min(times[side]), 3), "repeats": len(times[side]), **extra}
            if side + BEFORE in times:
                row["before_ms"] = round(float(np.median(times[side + BEFORE])), 3)
                row["before_ratio"] = round(float(np.median(np.divide(times[side + BEFORE], times[side]))), 3)
            row["gate"] = "held" if held else "missed"
            self.rows.append(row)
            if not held:
                self.misses.append(row["name"])
            print(self.line(row), flush=True)

    def head(self):
        return (f"{'case':<34}{'thr':>3}{'ours ms':>10}" + "".join(f"{p + ' ms':>12}{'ratio':>7}{'loss':>9}" for p in self.peers)
                + f"{'our loss':>10}  gate" + ("  before/now" if self.before else ""))

    @staticmethod
    def line(row):
        return (f"{row['name']:<34}{row['threads']:>3}{row['ours_ms']:>10.2f}"
                + "".join(f"{p['ms']:>12.2f}{p['ratio']:>7.2f}{p['loss']:>9.1e}" for p in row["peers"].values())
                + f"{row['ours_loss']:>10.1e}  {row['gate']}" + (f"{row['before_ratio']:>8.3f}" if "before_ratio" in row else ""))

    def svd_case(self, name, paths, rank, extra={}):
        batch = [(read_matrices(path)[0].astype(np.float64), np.load(path + ".npy")) for path in paths]
        self.tell(("load", *paths), ("load", *paths))
        sides = self.sides(lambda seed: ("run", rank, seed),
                           {q: lambda seed, q=q: ("run", q, 2 * rank, seed) for q in ("balanced", "tight")})
        limits = {"balanced": lambda _: 1e-3, "tight": lambda p: max(1.2 * p, 2e-6)}
        self.measure(name, batch, 2 * rank, sides, limits, extra)

    def stream_case(self, path, rank, power):
        """From activations and output gradients: the peer forms the gradient, we do not."""
        g, tokens = read_matrices(path)[0].astype(np.float64), ("tokens", path + ".x", path + ".dy")
        self.tell(tokens, tokens)
        sides = self.sides(lambda seed: ("stream", rank, MICRO, seed),
                           {"incremental": lambda seed: ("stream", rank, 0, power, MICRO, seed)})
        limit = 4e-3 if power == 0 else 2e-3  # what loraga/gradient/incremental.hpp promises
        extra = {"tokens": read_matrices(path + ".x")[0].shape[1], "micro_batch": MICRO}
        self.measure(f"stream-{g.shape[0]}x{g.shape[1]}-r{rank}-power{power}", [(g, np.load(path + ".npy"))], 2 * rank,
                     sides, {"incremental": lambda _: limit}, extra)
