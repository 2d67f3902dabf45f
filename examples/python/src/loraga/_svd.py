"""Truncated SVDs, and what they tell of a start."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy.typing

from . import _loraga
from ._arrays import Array
from ._checks import seeded, whole


class SVD(NamedTuple):
    """Leading singular triplets, G ~ U @ diag(s) @ V.T."""

    U: numpy.typing.NDArray[Any]
    """out x k, orthonormal columns"""
    s: numpy.typing.NDArray[Any]
    """k, descending"""
    V: numpy.typing.NDArray[Any]
    """in x k, orthonormal columns"""
    energy: float
    """The squared Frobenius norm of all of G; NaN where it is not known (an incremental estimate)."""
    flags: int
    """0 for a full answer; else what the library found out, as bits."""

    @property
    def captured(self) -> float:
        """The share of G's energy in these triplets."""
        return float((self.s.astype("float64") ** 2).sum() / self.energy)


def svd(
    G: Array,
    rank: int,
    *,
    method: Literal["auto", "tight", "gram", "exact", "krylov", "subspace"] = "auto",
    block: int = 0,
    depth: int = 0,
    width: int = 0,
    iterations: int = -1,
    seed: int = 0,
    check: bool = True,
) -> SVD:
    """The `rank` leading singular triplets of a matrix.

    auto      by shape and rank; may miss 1e-3 of the best energy (tight: 1e-4)
    gram      through the smaller side's Gram matrix, in double: s below 1e-7 of the first are 0
    exact     small singular values too; two to three times gram's time
    krylov    block Krylov iteration of `depth` (4) steps of `block` (rank) columns
    subspace  subspace iteration of `width` (2*rank) columns and `iterations` (4)

    G is float32 or float64, which the answer is too; float16 and bfloat16 are widened to float32. Signs are fixed, so the
    same G gives the same bits, with any number of threads.
    ValueError for a G that is zero or not finite, unless check=False, which returns the flags.
    """
    numbers = {"rank": rank, "block": block, "depth": depth, "width": width}
    for name, value in numbers.items():
        whole(value, "svd", name, 0)
    whole(iterations, "svd", "iterations", -1)
    seeded(seed, "svd")
    shape: tuple[int, ...] = tuple(getattr(G, "shape", ()))
    if 0 in shape:
        raise ValueError(f"svd: G is empty, of shape {shape}, expected at least one number")
    return SVD(
        *_loraga.svd(
            G,
            rank,
            method=method,
            block=block,
            depth=depth,
            width=width,
            iterations=iterations,
            seed=seed,
            check=check,
        )
    )


def top(estimate: _loraga.Estimate, k: int) -> SVD:
    """The k leading triplets of an estimate's mean gradient; an incremental one has `width` of them."""
    return SVD(*_loraga.top(estimate, whole(k, "top", "k", 1)))


class Alignment(NamedTuple):
    """How well an adapter's first SGD step follows full fine-tuning's."""

    cosine: float
    """of the change of s*B@A and -G"""
    attained: float
    """the energy of G in that direction, as a share of what any step of rank 2r can have; 1 for LoRA-GA"""


def alignment(G: Array, A: Array, B: Array) -> Alignment:
    """How well the first SGD step from A (r x in) and B (out x r) follows the gradient G (out x in)."""
    return Alignment(*_loraga.alignment(G, A, B))
