"""Adapters as files: PEFT's folders, merged models, GGUF."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Union

from . import _loraga
from ._arrays import Array, changed
from ._checks import of_module
from ._loraga import Record
from ._start import Start

Path = Union[str, "os.PathLike[str]"]
RelativeTo = Literal["original", "anchored"]
Adapter = Union[Iterable[Record], Mapping[str, Union[Start, tuple[Array, Array]]]]


def _records(
    adapter: Adapter, scale: float | Mapping[str, float] | None, where: str, relative_to: str | None = None
) -> list[Record]:
    if isinstance(adapter, Start):
        raise TypeError(f"{where}: adapter is a Start, expected {{module: start}}, or [start.record(A, B)] once it is trained")
    if not isinstance(adapter, Mapping):
        if scale is not None:
            raise ValueError(f"{where}: scale is given beside records, expected none: they have their own")
        return list(adapter)
    records = []
    for module, value in adapter.items():
        if isinstance(value, Start):
            if module != value.module and value.module != "the layer":
                raise ValueError(f"{where}: the start of {value.module} is called {module}, expected one name")
            r = value.record()
            records.append(Record(module, r.A, r.B, r.scale, start_A=r.start_A, start_B=r.start_B))
            continue
        if relative_to == "original":
            raise ValueError(
                f"{where}: relative_to is 'original' with A and B of {module} alone, which tell no start to take back, expected "
                "records that know it, [starts[module].record(A, B), ...]; or, where there was none, no relative_to"
            )
        if scale is None:
            raise ValueError(f"{where}: scale is missing, expected s of W + s*B@A, for all layers or by module")
        A, B = value
        records.append(Record(module, A, B, of_module(scale, module, where, "scale") if isinstance(scale, Mapping) else scale))
    return records


def _check_base(records: list[Record], relative_to: str | None, base_name: str) -> None:
    anchored = [r.module for r in records if r.start_A is not None]
    if anchored and relative_to is None:
        raise ValueError(
            f"save_peft: relative_to is missing, and {anchored[0]} is anchored, expected 'original' (rank 2r, for W as it was) "
            "or 'anchored' (A and B, for the changed W, which base_name must name)"
        )
    if relative_to == "anchored" and not base_name:
        raise ValueError(
            "save_peft: base_name is missing with relative_to='anchored', expected the name of the changed base: on the "
            "original one A and B are wrong"
        )


def save_peft(
    folder: Path,
    adapter: Adapter,
    *,
    scale: float | Mapping[str, float] | None = None,
    relative_to: RelativeTo | None = None,
    base: Path | None = None,
    base_name: str = "",
    task_type: str = "",
    rslora: bool = False,
    portable: bool = False,
    dropout: float = 0.0,
    fan_in_fan_out: bool = False,
    module_prefix: str = "",
    overwrite: bool = False,
) -> None:
    """Writes adapter_config.json and adapter_model.safetensors as PEFT does.

    adapter      {module: (A, B)} with `scale`, {module: Start}, or records (Start.record, Record, load_peft)
    relative_to  must be said for anchored layers: 'anchored' writes A and B, to be loaded on W - s*start_B@start_A, which
                 base_name must name; 'original' writes rank 2r, [A; start_A] and [B, -start_B], for W as it was
                 wherever there was a start, A and B alone ({module: (A, B)}) are refused with 'original'
    base         the model's safetensors, to look names and shapes up in: PEFT ignores names it does not know, and without
                 base nobody looks
    rslora       write alpha for s = alpha/sqrt(r);  portable  fold s into B, for vLLM and others
    overwrite    replaces files that are there; FileExistsError without it
    """
    records = _records(adapter, scale, "save_peft", relative_to)
    _check_base(records, relative_to, base_name)
    _loraga.save_peft(
        os.fspath(folder),
        records,
        relative_to,
        None if base is None else os.fspath(base),
        base_name,
        task_type,
        rslora,
        portable,
        dropout,
        fan_in_fan_out,
        module_prefix,
        overwrite,
    )


class Loaded(NamedTuple):
    """An adapter from PEFT's files."""

    records: dict[str, Record]
    """by module"""
    config: dict[str, Any]
    """the facts of adapter_config.json that are not in the records"""


def load_peft(folder: Path, *, relative_to: RelativeTo | None = None) -> Loaded:
    """Reads a LoRA, DoRA or AdaLoRA adapter. One whose start changed the base (PEFT's pissa, lora_ga ...) is refused unless
    relative_to='anchored' says that it goes with that base."""
    records, config = _loraga.load_peft(os.fspath(folder), relative_to)
    return Loaded({r.module: r for r in records}, config)


def merge(W: Array, A: Array, B: Array, scale: float) -> None:
    """W += scale*B@A, in place, rounded to W's type once. A negative scale takes it out."""
    _loraga.merge(W, A, B, scale)
    changed(W)


def _warn_of_another_base(folder: str, base: str) -> None:
    """Where an adapter's folder names another model than the one at hand. A name is a path or ORGANISATION/MODEL."""
    try:
        with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as file:
            name = json.load(file).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return  # load_peft tells what is wrong with it
    if not isinstance(name, str) or not name or os.path.realpath(name) == os.path.realpath(base):
        return
    words = os.path.realpath(base).replace("--", "/").split("/")  # Hugging Face's cache has models--ORGANISATION--MODEL
    last = name.rstrip("/").split("/")[-1]
    if last not in words and os.path.splitext(last)[0] not in [os.path.splitext(w)[0] for w in words]:
        warnings.warn(
            f"merge_peft: {folder} is an adapter for {name!r} (base_model_name_or_path), and base is {base!r}: on another "
            "model than it was made for it is wrong",
            stacklevel=3,
        )


def merge_peft(
    base: Path,
    out: Path,
    adapters: Path | Mapping[str, float],
    *,
    relative_to: RelativeTo | None = None,
    unmerge: bool = False,
    fan_in_fan_out: bool | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Merges adapters' folders (with weights) into a model in safetensors; `out` loads as the base does. Returns what was
    matched, replaced and left out, in sentences. Ctrl-C is heard between tensors. Warns where a folder names another base.

    unmerge=True takes them out: of an untrained start's folder (A and B as the start made them) and the original base this
    makes W - s*B@A, the base that relative_to='anchored' adapters are for.
    """
    weighted = [(k, float(w)) for k, w in adapters.items()] if isinstance(adapters, Mapping) else [(os.fspath(adapters), 1.0)]
    if not unmerge:
        for folder, _ in weighted:
            _warn_of_another_base(os.fspath(folder), os.fspath(base))
    return _loraga.merge_peft(
        os.fspath(base), os.fspath(out), weighted, relative_to, -1.0 if unmerge else 1.0, fan_in_fan_out, overwrite
    )


def combine(adapters: Iterable[tuple[Adapter, float]]) -> list[Record]:
    """One adapter that does what the weighted sum of several does; ranks add up."""
    return _loraga.combine([(_records(a, None, "combine"), float(w)) for a, w in adapters])


def save_gguf(
    path: Path,
    adapter: Adapter,
    *,
    architecture: str,
    heads: int = 0,
    kv_heads: int = 0,
    scale: float | Mapping[str, float] | None = None,
    name: str = "",
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    overwrite: bool = False,
) -> None:
    """Writes an adapter for llama.cpp (`--lora`): llama (with its heads), qwen2, qwen3, gpt2, bert or t5. Anchored layers
    are widened: the file adds to the original base."""
    records = [r.widened() for r in _records(adapter, scale, "save_gguf")]
    _loraga.save_gguf(os.fspath(path), records, architecture, heads, kv_heads, name, dtype, overwrite)
