"""Starts of adapters, by name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy
import numpy.typing

from . import _loraga
from ._arrays import Array, changed
from ._checks import either, guess, of_module, seeded, whole
from ._loraga import Estimate, Inputs, Record

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
    the inputs. NaN for random starts, and for incremental estimates: these do not know the energy of what they dropped"""

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
Layer = tuple[str, Any, "Estimate | None", "Inputs | None", "tuple[int, int] | None", int]


class Settings(TypedDict, total=False):
    """What only some methods know; the others refuse it."""

    gamma: float | None
    step: float | None
    directions: Literal["ArB2r", "A2rBr", "ArBr", "random"] | None
    scale: Literal["stable", "gd", "unit", "weight_svd", "peft_stable", "peft_weight_svd"] | None
    part: Literal["ipm", "kpm"] | None
    clip: bool


def _check_names(where: str, method: str, settings: Mapping[str, Any]) -> None:
    known = list(Settings.__annotations__)
    for name in settings:
        if name not in known:
            raise TypeError(f"{where}: {name} is unknown, expected {either(known)}{guess(name, known)}")
    methods = _loraga.methods()
    if method not in methods:
        raise ValueError(f"{where}: method is {method!r}, expected {either(methods)}{guess(str(method), methods)}")


def _check_layer(layer: Layer, where: str) -> None:
    _, _, estimate, inputs, shape, rank = layer
    whole(rank, where, "rank", 1)
    if estimate is not None and not isinstance(estimate, Estimate):
        raise TypeError(f"{where}: estimate is of type {type(estimate).__name__}, expected an Estimate")
    if inputs is not None and not isinstance(inputs, Inputs):
        raise TypeError(f"{where}: inputs is of type {type(inputs).__name__}, expected Inputs")
    if shape is not None:
        if len(shape) != 2:
            raise ValueError(f"{where}: shape is {tuple(shape)}, expected (out_features, in_features)")
        for size in shape:
            whole(size, where, "shape", 1)


def _warn_of_few_directions(estimate: Estimate, rank: int, where: str) -> None:
    """LoRA-GA takes 2r directions of the gradient: those that it has not are arbitrary."""
    wanted = 2 * rank
    if estimate.count == 0 or wanted > estimate.width:
        return  # refused by the start
    if estimate.kind == "dense":  # a sketch with a few more columns has the rank of the whole, up to their number
        mean = estimate.mean()
        columns = min(wanted + 8, estimate.in_features)
        sketch = numpy.random.default_rng(0).standard_normal((estimate.in_features, columns)).astype(mean.dtype)
        s = numpy.linalg.svd(mean @ sketch, compute_uv=False)
    else:
        s = _loraga.top(estimate, wanted)[1]
    eps = float(numpy.finfo(estimate.dtype).eps)
    found = int((s[:wanted] > s[0] * 8 * eps * max(estimate.out_features, estimate.in_features) ** 0.5).sum())
    if 0 < found < wanted:
        warnings.warn(
            f"{where}: the gradient has {found} directions, and rank {rank} of lora-ga takes {wanted}: the others are "
            f"arbitrary; add more micro-batches or tokens, or use a rank of at most {max(1, found // 2)}",
            stacklevel=4,
        )


def _started(
    where: str,
    layers: list[Layer],
    method: str,
    alpha: float,
    scaling: Scaling | None,
    anchor: Anchor | None,
    quality: str,
    seed: int,
    settings: Mapping[str, Any],
) -> dict[str, Start]:
    _check_names(where, method, settings)
    seeded(seed, where)
    if not isinstance(alpha, (int, float)):
        raise TypeError(f"{where}: alpha is {alpha!r}, of type {type(alpha).__name__}, expected a number")
    for layer in layers:
        _check_layer(layer, f"start({layer[0]})")
        if method == "lora-ga" and layer[2] is not None:
            _warn_of_few_directions(layer[2], layer[5], f"start({layer[0]})")
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        results = _loraga.start_layers(
            layers, method, alpha, scaling=scaling, anchor=anchor, quality=quality, seed=seed, **given
        )
    except MemoryError:
        numbers = sum(rank * sum(shape) for *_, shape, rank in layers if shape is not None)
        said = f"; A and B of the shapes given take {4 * numbers} bytes" if numbers else ""
        raise MemoryError(f"{where}: out of memory, expected layers and ranks that fit into it{said}") from None
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
    quality: Literal["balanced", "tight"] = "balanced",
    seed: int = 0,
    module: str = "the layer",
    **settings: Unpack[Settings],
) -> Start:
    """Makes A and B of one layer.

    method    one of loraga.methods(). From random numbers: lora, gaussian, orthogonal, gaussian-pair; from W: pissa, milora,
              olora; from W and inputs: corda; from inputs: eva; from the estimate: lora-ga, lora-one, gora, lora-sb
    W         the weight, out_features x in_features; given where the method reads it or the anchor changes it
    scaling   'rslora' s = alpha/sqrt(rank), 'lora' s = alpha/rank; unless it is said as the method wants it
    anchor    must be said where B@A is not zero at the start and the model shall begin unchanged (gaussian-pair, pissa,
              milora, olora, corda, lora-ga): 'in_place' changes W, 'pair' leaves it
    settings  gamma=16, directions='ArB2r' ('A2rBr', 'ArBr', 'random'), scale='stable' ('gd', 'unit', 'weight_svd',
              'peft_stable', 'peft_weight_svd'), clip=False are lora-ga's (gamma: lora-one's and gaussian-pair's too);
              step is gora's and lora-sb's learning rate; part='ipm' ('kpm') is corda's

    A and B are float64 where the estimate, the inputs or, without these, W is; else float32. An in-place W may be of any of
    the four types: W - s*B@A is rounded to it once.
    lora-ga warns where the gradient has fewer than 2*rank directions, because the others are arbitrary.
    Nothing is changed where something is refused.
    """
    layer = (module, W, estimate, inputs, shape, rank)
    return _started("start", [layer], method, alpha, scaling, anchor, quality, seed, settings)[module]


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
    **settings: Unpack[Settings],
) -> dict[str, Start]:
    """start for many layers, by their names, with the same keywords: layers draw different random numbers, and no W is
    changed before all are started. Ctrl-C is heard between layers."""
    if len(set(modules)) != len(modules):
        raise ValueError("start_all: modules hold a name twice, expected each once")

    def own(by_module: Any, name: str, what: str) -> Any:
        return None if by_module is None else of_module(by_module, name, "start_all", what)

    layers = [
        (
            name,
            own(W, name, "W"),
            own(estimate, name, "estimate"),
            own(inputs, name, "inputs"),
            own(shape, name, "shape"),
            own(rank, name, "rank") if isinstance(rank, Mapping) else rank,
        )
        for name in modules
    ]
    return _started("start_all", layers, method, alpha, scaling, anchor, quality, seed, settings)
