"""What counts as an array."""

from __future__ import annotations

import sys
from typing import Any, Protocol


class Array(Protocol):
    """An array of numpy, torch or another library that speaks DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


def changed(array: object) -> None:
    """Tells torch that a tensor's numbers were changed behind its back, so that a backward pass that saved the old ones
    fails instead of being wrong."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        torch.autograd.graph.increment_version(array)
