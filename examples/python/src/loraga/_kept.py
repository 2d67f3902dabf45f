"""Starts in a file, for a process that comes later."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy

from ._files import Path
from ._start import Start

_FORMAT = "loraga starts 1"
_FACTS = ("module", "method", "scale", "anchor", "coverage")


def save_starts(path: Path, starts: Mapping[str, Start] | Iterable[Start], *, overwrite: bool = False) -> None:
    """Writes starts with all that belongs to them as numpy's npz: A, B, s, the anchor. Trained A and B are not in it.

    FileExistsError unless overwrite=True; the file appears whole or not at all.
    """
    all_of_them = list(starts.values() if isinstance(starts, Mapping) else starts)
    for s in all_of_them:
        if not isinstance(s, Start):
            raise TypeError(f"save_starts: a start is of type {type(s).__name__}, expected Start")
    if len({s.module for s in all_of_them}) != len(all_of_them):
        raise ValueError("save_starts: starts hold a module twice, expected each once")
    to = os.fspath(path)
    if os.path.exists(to) and not overwrite:
        raise FileExistsError(f"save_starts: {to} exists, expected a new name or overwrite=True")
    facts = [{name: getattr(s, name) for name in _FACTS} for s in all_of_them]
    arrays: dict[str, Any] = {"starts": numpy.array(json.dumps({"format": _FORMAT, "starts": facts}))}
    for i, s in enumerate(all_of_them):
        arrays[f"{i}.A"], arrays[f"{i}.B"] = s.A, s.B
    beside = f"{to}.{os.getpid()}.part"
    try:
        with open(beside, "xb") as file:
            numpy.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, to)
    finally:
        if os.path.exists(beside):
            os.unlink(beside)


def load_starts(path: Path) -> dict[str, Start]:
    """Reads what save_starts wrote, by module. W of anchor='in_place' is not in it: it is the model's, saved when it was
    changed, or loraga.merge(W, start.A, start.B, -start.scale) of the original."""
    where = f"load_starts({os.fspath(path)})"
    try:
        with numpy.load(os.fspath(path), allow_pickle=False) as file:
            about = json.loads(str(file["starts"]))
            form = about["format"]
            found = [Start(A=file[f"{i}.A"], B=file[f"{i}.B"], **facts) for i, facts in enumerate(about["starts"])]
    except (KeyError, TypeError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as e:
        raise ValueError(f"{where}: it holds no starts, expected a file of save_starts") from e
    if form != _FORMAT:
        raise ValueError(f"{where}: format is {form!r}, expected {_FORMAT!r}")
    for s in found:
        if s.A.ndim != 2 or s.B.ndim != 2 or s.A.shape[0] != s.B.shape[1]:
            raise ValueError(f"{where}: A and B of {s.module} are {s.A.shape} and {s.B.shape}, expected r x in and out x r")
    return {s.module: s for s in found}
