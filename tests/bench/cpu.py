"""What bench/cpu judges by: losses, gates, ratios and equality, with servers that answer from here instead of measuring."""
import contextlib
import io
import json
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "cpu"))
sys.dont_write_bytecode = True
try:
    import numpy as np
except ImportError:
    print("no NumPy: nothing is tested")
    sys.exit(0)

import products
import turns
from matrix_file import read_matrices, write_matrices


class Fake:
    """Answers run and stream with the next of `times` and writes `factors`."""

    def __init__(self, times, factors=()):
        self.times, self.factors, self.asked = times, factors, 0

    def __call__(self, *words):
        if words[0] not in ("run", "stream"):
            return 0.0
        if words[-1] != os.devnull:
            write_matrices(words[-1], *self.factors)
        self.asked += 1
        return self.times[self.asked % len(self.times)]

    def cpu_seconds(self):
        return 0.0


class FakeProducts(Fake):
    """Multiplies truly, but for `wrong`, which is added to one number."""

    def __init__(self, a, b, wrong=0.0):
        self.a, self.b, self.wrong = a, b, wrong

    def __call__(self, command, which, width, runs, out):
        c = (self.a if which == "ab" else self.a.T) @ self.b[:, :width]
        c[0, 0] += self.wrong
        write_matrices(out, c)


class Turns(unittest.TestCase):
    def setUp(self):
        rng = np.random.default_rng(3)
        self.u, self.v = (np.linalg.qr(rng.standard_normal((n, 12)))[0] for n in (30, 20))
        sigma = 0.5 ** np.arange(12)
        self.batch = [((self.u * sigma) @ self.v.T, sigma ** 2)]
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        turns.SECONDS = 0

    def measured(self, ours, peers):
        bench = turns.Bench(ours, None, 1, self.folder.name, peers)
        sides = bench.sides(lambda seed: ("run", 2, seed), {"tight": lambda seed: ("run", "tight", 4, seed)})
        with contextlib.redirect_stdout(io.StringIO()):
            bench.measure("case", self.batch, 4, sides, {"tight": lambda p: max(1.2 * p, 2e-6)}, {})
        return bench.rows[0], bench.misses

    def best(self):
        return self.u[:, :4], self.v[:, :4]

    def worse(self):  # the fifth triplet in the fourth's place
        return self.u[:, [0, 1, 2, 4]], self.v[:, [0, 1, 2, 4]]

    def test_files_keep_matrices(self):
        path = os.path.join(self.folder.name, "two")
        write_matrices(path, self.u, self.v.T)
        for written, read in zip((self.u, self.v.T), read_matrices(path)):
            np.testing.assert_array_equal(written.astype(np.float32), read)

    def test_loss_is_the_worse_side(self):
        total = sum(0.25 ** i for i in range(4))
        self.assertLess(abs(turns.judge(self.batch, [self.best()], 4)[0]), 1e-12)
        for factors in ((self.best()[0], self.worse()[1]), (self.worse()[0], self.best()[1])):
            self.assertAlmostEqual(turns.judge(self.batch, [factors], 4)[0], (0.25 ** 3 - 0.25 ** 4) / total)

    def test_deviation_from_orthonormal(self):
        u, v = self.best()
        self.assertAlmostEqual(turns.judge(self.batch, [(u, 1.01 * v)], 4)[1], 1.01 ** 2 - 1)

    def test_ratios(self):
        peers = {"new": Fake([12, 9, 12], self.best()), "old": Fake([30, 20, 30], self.best())}
        row, misses = self.measured(Fake([2, 8, 4], self.best()), peers)
        self.assertEqual((row["ours_ms"], row["peer_ms"], row["ratio"]), (4, 9, 2.25))
        self.assertEqual((row["peers"]["new"]["ratio"], row["peers"]["old"]["ratio"]), (2.25, 5))
        self.assertEqual((misses, row["gate"]), ([], "held"))
        json.dumps(row)

    def test_gates(self):
        good, bad = (lambda: Fake([1], self.best())), (lambda: Fake([1], self.worse()))
        self.assertEqual(self.measured(bad(), {"new": good(), "old": bad()})[1], ["case-tight"])  # the first peer decides
        self.assertEqual(self.measured(bad(), {"new": bad(), "old": good()})[1], [])
        crooked = Fake([1], (self.best()[0], 1.0001 * self.best()[1]))
        self.assertEqual(self.measured(crooked, {"new": good()})[1], ["case-tight"])


class Products(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.kept = products.SIZE, products.WIDTHS
        products.SIZE, products.WIDTHS = 64, [3, 5]
        self.addCleanup(lambda: setattr(products, "SIZE", self.kept[0]) or setattr(products, "WIDTHS", self.kept[1]))

    def test_wrong_products_miss(self):
        for wrong, count in ((0.0, 0), (1e-2, 1), (float("nan"), 1)):
            bench = products.Products({}, 1, self.folder.name)
            bench.servers = {"ours": FakeProducts(bench.a, bench.b, wrong)}
            for which in ("ab", "atb"):
                bench.misses = []
                bench.check("ours", which, 5, 0)
                self.assertEqual(len(bench.misses), count, (which, wrong))

    def test_floor_and_shares(self):
        can = {"leading_dimension": 64, "threads": 1, "square_gflops": 50.0, "peak_gflops": 100.0, "read_gbs": 10.0}
        row = products.Products.row("ab", 5, can, {"ours": [0.004, 0.002, 0.008], "peer": [0.007, 0.006]}, {"ours": 0, "peer": 0})
        self.assertEqual((row["ours_ms"], row["peer_ms"], row["ratio"]), (0.004, 0.006, 1.5))
        self.assertAlmostEqual(row["ours_gflops"], 2 * 64 * 64 * 5 / 4e-6 / 1e9)
        self.assertAlmostEqual(row["share_of_square"], row["ours_gflops"] / 50, places=3)
        self.assertAlmostEqual(row["share_of_floor"], 4 * 64 * (64 + 10) / 10e9 / 4e-6, places=3)  # memory is slower here
        fast = products.Products.row("ab", 5, {**can, "read_gbs": 1e6}, {"ours": [0.004], "peer": [1.0]}, {"ours": 0, "peer": 0})
        self.assertAlmostEqual(fast["floor_gflops"], 100, places=3)


if __name__ == "__main__":
    unittest.main()
