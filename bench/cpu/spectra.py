"""Gradient-like matrices of named spectra, with their exact leading singular values.

pl1n  sigma_i = 1/i plus white noise of spectral norm 1/64
pl05  sigma_i = i^-1/2
tok   G = dY^T X of a few thousand tokens with power-law covariances, an outlier direction, heavy-tailed tokens
Files are matrix_file.py's.
"""
import numpy as np
import scipy.linalg

from matrix_file import write_matrices as write


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


def leading_energies(g, count):
    """The `count` largest squared singular values, from the Gram matrix in double."""
    small = g if g.shape[0] >= g.shape[1] else g.T
    n = small.shape[1]
    values = scipy.linalg.eigh(small.T @ small, eigvals_only=True, subset_by_index=[n - min(count, n), n - 1])
    return np.maximum(values[::-1], 0)


def make_file(kind, rows, cols, path, seed=1234, triplets=256):
    """Writes the matrix to path, for "tok" also its activations and output gradients (features x tokens) to path.x and
    path.dy, and last the exact leading energies to path.npy."""
    rng = np.random.default_rng(seed + rows + 7 * cols)
    if kind == "tok":
        x, dy = tokens(rows, cols, rng)
        write(path + ".x", x.T)
        write(path + ".dy", dy.T)
        g = dy.astype(np.float64).T @ x.astype(np.float64)
    else:
        exponent, noise = {"pl1n": (1.0, 1 / 64), "pl05": (0.5, 0.0)}[kind]
        g = power_law(rows, cols, exponent, noise, rng)
    write(path, g)
    np.save(path + ".npy", leading_energies(g.astype(np.float32).astype(np.float64), triplets))
