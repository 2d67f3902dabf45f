"""What arguments must be, in sentences."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Mapping, Sequence
from typing import Any


def either(names: Sequence[str]) -> str:
    """'a, b or c'."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]


def guess(name: str, names: Sequence[str]) -> str:
    """The end of a sentence that refuses a misspelt name."""
    near = difflib.get_close_matches(name, names, 1, 0.7)
    return f" (did you mean {near[0]}?)" if near else ""


def whole(value: Any, where: str, name: str, least: int, most: int = 2**31 - 1) -> int:
    """The int. TypeError for 4.0 and True, ValueError outside of the bounds."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{where}: {name} is {value!r}, of type {type(value).__name__}, expected a whole number (int)")
    number = operator.index(value)
    if not least <= number <= most:
        raise ValueError(f"{where}: {name} is {number}, expected " + (f"at least {least}" if number < least else f"at most {most}"))
    return number


def seeded(value: Any, where: str) -> int:
    return whole(value, where, "seed", 0, 2**64 - 1)


def of_module(by_module: Any, module: str, where: str, name: str) -> Any:
    """What a mapping holds for a module."""
    if not isinstance(by_module, Mapping):
        raise TypeError(f"{where}: {name} is of type {type(by_module).__name__}, expected a mapping from each module to its own")
    if module not in by_module:
        raise ValueError(f"{where}: {name} lacks {module}, expected one for each module{guess(module, list(by_module))}")
    return by_module[module]
