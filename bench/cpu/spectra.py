"""Writes one gradient-like matrix of a named spectrum, with its exact leading singular values.

spectra.py KIND ROWS COLS FILE [TRIPLETS]

KIND   pl1n  sigma_i = 1/i plus white noise of spectral norm 1/64
       pl05  sigma_i = i^-1/2
       tok   G = dY^T X of a few thousand tokens with power-law covariances, an outlier direction, heavy-tailed tokens
FILE   rows, cols as int32, then float32 column-major; FILE.npy gets the leading squared singular values
"""
import sys

import numpy as np
import scipy.linalg


def orthonormal(rows, cols, rng):
    q, r = np.linalg.qr(rng.standard_normal((rows, cols)))
    return q * np.sign(np.diag(r))


def power_law(rows, cols, exponent, noise, rng):
    p = min(rows, cols)
    sigma = np.arange(1, p + 1) ** -exponent
    g = (orthonormal(rows, p, rng) * sigma) @ orthonormal(cols, p, rng).T
    if noise:
        g += rng.standard_normal((rows, cols)) * noise / (np.sqrt(rows) + np.sqrt(cols))
    return g


def tokens(rows, cols, rng, count=None):
    """X (tokens x cols) and dY (tokens x rows), float32; their gradient has norm near 1."""
    count = count or (4096 if cols >= 4096 else 2048)
    basis_x, basis_y = orthonormal(cols, cols, rng), orthonormal(rows, rows, rng)
    x = (rng.standard_normal((count, cols)) * np.arange(1, cols + 1) ** -0.6) @ basis_x.T
    x += 2.0 * basis_x[:, 5] * (1 + 0.1 * rng.standard_normal((count, 1)))
    shared = rng.standard_normal((cols, 64)) @ orthonormal(rows, 64, rng).T / np.sqrt(cols)
    dy = (rng.standard_normal((count, rows)) * np.arange(1, rows + 1) ** -0.5) @ basis_y.T
    dy *= np.exp(0.8 * rng.standard_normal((count, 1)))
    dy += 0.3 * (x @ shared)
    return x.astype(np.float32), (dy / count).astype(np.float32)


def make(kind, rows, cols, seed=1234):
    rng = np.random.default_rng(seed + rows + 7 * cols)
    if kind == "tok":
        x, dy = tokens(rows, cols, rng)
        return dy.astype(np.float64).T @ x.astype(np.float64)
    exponent, noise = {"pl1n": (1.0, 1 / 64), "pl05": (0.5, 0.0)}[kind]
    return power_law(rows, cols, exponent, noise, rng)


def leading_energies(g, count):
    """The `count` largest squared singular values, from the Gram matrix in double."""
    small = g if g.shape[0] >= g.shape[1] else g.T
    n = small.shape[1]
    values = scipy.linalg.eigh(small.T @ small, eigvals_only=True, subset_by_index=[n - min(count, n), n - 1])
    return np.maximum(values[::-1], 0)


def write(path, g, count):
    g = np.asfortranarray(g.astype(np.float32))
    with open(path, "wb") as out:
        np.array(g.shape, dtype=np.int32).tofile(out)
        out.write(g.tobytes("F"))
    np.save(path + ".npy", leading_energies(g.astype(np.float64), count))


if __name__ == "__main__":
    kind, rows, cols, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    write(path, make(kind, rows, cols), int(sys.argv[5]) if len(sys.argv) > 5 else 256)
