"""Starts of adapters, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy.typing

from . import _loraga
from ._arrays import Array, changed
from ._loraga import Estimate, Inputs, Record


@dataclass(frozen=True)
class Start:
    """A and B of one layer in PEFT's shapes, and what goes with them."""

    module: str
    method: str
    A: numpy.typing.NDArray[Any]
    """r x in_features"""
    B: numpy.typing.NDArray[Any]
    """out_features x r"""
    scale: float
    """s: the layer computes W + s*B@A"""
    anchor: str | None
    """'in_place': W has become W - s*B@A; 'pair': subtract s*start_B@start_A; None: neither"""
    coverage: float
    """share of what was factored that lies in the directions used: of the gradient's energy, the weight's, the variance of
    the inputs; NaN where nothing was measured"""

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])

    def record(self, A: Array | None = None, B: Array | None = None, *, dtype: str | None = None) -> Record:
        """This layer for a file, with trained A and B where they are given: it keeps the start they are anchored to."""
        start = {"start_A": self.A, "start_B": self.B} if self.anchor else {}
        a, b = self.A if A is None else A, self.B if B is None else B
        return Record(self.module, a, b, self.scale, dtype=dtype, **start)


Scaling = Literal["lora", "rslora"]
Anchor = Literal["in_place", "pair"]


class Settings(TypedDict, total=False):
    """What only some methods know; the others refuse it."""

    gamma: float
    step: float
    directions: Literal["ArB2r", "A2rBr", "ArBr", "random"]
    scale: Literal["stable", "gd", "unit", "weight_svd", "peft_stable", "peft_weight_svd"]
    part: Literal["ipm", "kpm"]
    clip: bool


def _started(
    layers: list[tuple[str, Any, Estimate | None, Inputs | None, tuple[int, int] | None, int]],
    method: str,
    alpha: float,
    scaling: Scaling | None,
    anchor: Anchor | None,
    quality: str,
    seed: int,
    settings: Settings,
) -> dict[str, Start]:
    results = _loraga.start_layers(
        layers, method, alpha, scaling=scaling, anchor=anchor, quality=quality, seed=seed, **settings
    )
    starts = {}
    for layer, (A, B, s, coverage) in zip(layers, results):
        if anchor == "in_place":
            changed(layer[1])
        starts[layer[0]] = Start(layer[0], method, A, B, s, anchor, coverage)
    return starts


def start(
    method: str = "lora-ga",
    *,
    W: Array | None = None,
    estimate: Estimate | None = None,
    inputs: Inputs | None = None,
    shape: tuple[int, int] | None = None,
    rank: int = 8,
    alpha: float = 16.0,
    scaling: Scaling | None = None,
    anchor: Anchor | None = None,
    gamma: float | None = None,
    step: float | None = None,
    directions: Literal["ArB2r", "A2rBr", "ArBr", "random"] | None = None,
    scale: Literal["stable", "gd", "unit", "weight_svd", "peft_stable", "peft_weight_svd"] | None = None,
    part: Literal["ipm", "kpm"] | None = None,
    clip: bool = False,
    quality: Literal["balanced", "tight"] = "balanced",
    seed: int = 0,
    module: str = "the layer",
) -> Start:
    """Makes A and B of one layer.

    method    one of loraga.methods(). From random numbers: lora, gaussian, orthogonal, gaussian-pair; from W: pissa, milora,
              olora; from W and inputs: corda; from inputs: eva; from the estimate: lora-ga, lora-one, gora, lora-sb
    W         the weight, out_features x in_features; given where the method reads it or the anchor changes it
    scaling   'rslora' s = alpha/sqrt(rank), 'lora' s = alpha/rank; unless it is said as the method wants it
    anchor    must be said where B@A is not zero at the start and the model shall begin unchanged (gaussian-pair, pissa,
              milora, olora, corda, lora-ga): 'in_place' changes W, 'pair' leaves it
    gamma, directions, scale, clip   lora-ga's (gamma: lora-one's and gaussian-pair's too)
    step      gora's and lora-sb's learning rate;  part  corda's

    A and B are float64 where the estimate, the inputs or, without these, W is; else float32. An in-place W may be of any of
    the four types: W - s*B@A is rounded to it once.
    Nothing is changed where something is refused.
    """
    settings: Settings = {}
    if gamma is not None:
        settings["gamma"] = gamma
    if step is not None:
        settings["step"] = step
    if directions is not None:
        settings["directions"] = directions
    if scale is not None:
        settings["scale"] = scale
    if part is not None:
        settings["part"] = part
    if clip:
        settings["clip"] = clip
    layer = (module, W, estimate, inputs, shape, rank)
    return _started([layer], method, alpha, scaling, anchor, quality, seed, settings)[module]


def start_all(
    method: str,
    modules: list[str],
    *,
    W: Mapping[str, Array] | None = None,
    estimate: Mapping[str, Estimate] | None = None,
    inputs: Mapping[str, Inputs] | None = None,
    shape: Mapping[str, tuple[int, int]] | None = None,
    rank: int | Mapping[str, int] = 8,
    alpha: float = 16.0,
    scaling: Scaling | None = None,
    anchor: Anchor | None = None,
    quality: Literal["balanced", "tight"] = "balanced",
    seed: int = 0,
    settings: Settings | None = None,
) -> dict[str, Start]:
    """start for many layers, by their names: layers draw different random numbers, and no W is changed before all are
    started. Ctrl-C is heard between layers."""
    if len(set(modules)) != len(modules):
        raise ValueError("start_all: modules hold a name twice, expected each once")
    layers = [
        (
            name,
            None if W is None else W[name],
            None if estimate is None else estimate[name],
            None if inputs is None else inputs[name],
            None if shape is None else shape[name],
            rank if isinstance(rank, int) else rank[name],
        )
        for name in modules
    ]
    return _started(layers, method, alpha, scaling, anchor, quality, seed, settings or {})
