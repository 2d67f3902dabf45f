"""Answers commands on standard input with torch, as svd_server.cpp and products.cpp do with this library, so that one driver
times all of them in turn and judges them by the same code. Runs under any Python that has torch and NumPy.

  about                             what multiplies here, as JSON
  load FILE...                      a batch of matrices
  run RANK SEED OUT                 torch.svd_lowrank(G, q=4*RANK, niter=4) of each; prints milliseconds
  tokens X DY                       activations and output gradients, features x tokens
  stream RANK TOKENS SEED OUT       the same of dY*XT, which is formed first, TOKENS columns at a time; prints milliseconds
  operands A B LD                   A (n x n, columns LD numbers apart) and B, both column-major
  product ab|atb WIDTH RUNS OUT     A*B or AT*B with the first WIDTH columns of B; prints each run's milliseconds
  square N RUNS                     the product of two N x N matrices of A's numbers; prints each run's milliseconds

Matrices lie in memory that torch allocated, as a user's gradients do. (NumPy asks for huge pages, torch and std::vector do not.)
More threads are not always faster for torch. So it runs with all and with one: run and stream print the faster, the products all.
"""
import ctypes
import json
import os
import platform
import sys
import time

import numpy as np
import torch

from matrix_file import read_matrices, write_matrices


def openblas():
    """The OpenBLAS this process multiplies with, or nothing."""
    torch.rand(8, 8) @ torch.rand(8, 8)
    loaded = sorted({line.split()[-1] for line in open("/proc/self/maps") if "blas" in line.lower() and "/" in line})
    found = [p for p in map(os.path.realpath, loaded) if "openblas" in p and "numpy" not in p]
    if not found:
        return None
    library = ctypes.CDLL(found[0])
    library.openblas_get_corename.restype = ctypes.c_char_p
    library.name = "/".join(found[0].split("/")[-2:])
    return library


class Torch:
    def __init__(self, threads):
        self.threads = threads
        self.config = [line.strip(" -") for line in torch.__config__.show().splitlines()]
        self.mkl = next((line for line in self.config if "Math Kernel Library" in line), None)
        self.blas = None if self.mkl else openblas()
        if not (self.mkl or self.blas):
            sys.exit("torch multiplies with neither MKL nor OpenBLAS (Debian: install libopenblas0-pthread)")
        self.use(threads)

    def use(self, threads):
        torch.set_num_threads(threads)  # MKL's as well
        if self.blas:
            self.blas.openblas_set_num_threads(threads)

    def about(self):
        blas = self.mkl or f"OpenBLAS, {self.blas.name}, kernel {self.blas.openblas_get_corename().decode()}"
        return {"torch": torch.__version__, "blas": blas, "python": platform.python_version(),
                "vectors": next(line for line in self.config if line.startswith("CPU capability"))}

    def load(self, *files):
        self.tensors = [self.rows_together(read_matrices(f)[0]) for f in files]

    def tokens(self, x, dy):
        self.x, self.dy = (self.rows_together(read_matrices(f)[0].T) for f in (x, dy))  # tokens x features

    @staticmethod
    def rows_together(matrix):
        tensor = torch.empty(matrix.shape)
        return tensor.copy_(torch.from_numpy(np.array(matrix, order="C")))

    def faster_of_threads(self, rank, seed, out, make_tensors):
        best = float("inf")
        for threads in sorted({self.threads, 1}):
            self.use(threads)
            torch.manual_seed(seed)
            start = time.perf_counter()
            factors = [torch.svd_lowrank(t, q=min(4 * rank, *t.shape), niter=4) for t in make_tensors()]
            best = min(best, 1e3 * (time.perf_counter() - start))
        if out != os.devnull:
            write_matrices(out, *(f.numpy() for u, _, v in factors for f in (u, v)))
        return best

    def run(self, rank, seed, out):
        return [self.faster_of_threads(int(rank), int(seed), out, lambda: self.tensors)]

    def stream(self, rank, tokens, seed, out):
        def formed():
            total = torch.zeros(self.dy.shape[1], self.x.shape[1])
            for first in range(0, len(self.x), int(tokens)):
                total.addmm_(self.dy[first:first + int(tokens)].T, self.x[first:first + int(tokens)])
            return [total]

        return [self.faster_of_threads(int(rank), int(seed), out, formed)]

    def operands(self, a, b, ld):
        a = self.rows_together(read_matrices(a)[0].T)  # rows of the transposed matrix: columns
        n, ld = len(a), int(ld)
        padded = torch.zeros(n * ld)
        padded.as_strided((n, n), (ld, 1)).copy_(a)
        self.a, self.bt = padded.as_strided((n, n), (1, ld)), self.rows_together(read_matrices(b)[0].T)

    def milliseconds(self, runs, a, b, c):
        times = []
        for threads in sorted({self.threads, 1}):
            self.use(threads)
            for _ in range(int(runs)):
                start = time.perf_counter()
                torch.mm(a, b, out=c)
                times.append(1e3 * (time.perf_counter() - start))
        return times

    def product(self, which, width, runs, out):
        c = torch.zeros(int(width), len(self.a)).T
        times = self.milliseconds(runs, self.a.T if which == "atb" else self.a, self.bt[:int(width)].T, c)
        if out != os.devnull:
            write_matrices(out, c.numpy())
        return times

    def square(self, n, runs):
        n = int(n)
        a, b = (self.a[first:first + n, :n].T.contiguous().T for first in (0, n))
        return self.milliseconds(runs, a, b, torch.zeros(n, n).T)


def main():
    peer = Torch(int(sys.argv[1]))
    for line in sys.stdin:
        command, *words = line.split()
        answer = getattr(peer, command)(*words)
        print(json.dumps(answer) if command == "about" else " ".join(f"{x:.6f}" for x in answer or [0]), flush=True)


if __name__ == "__main__":
    main()
