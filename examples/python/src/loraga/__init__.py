"""Low-rank adapters that start in the right direction, on numpy and torch arrays in the CPU's memory.

    estimate = loraga.Estimate(out_features, in_features, rank=8)
    estimate.add(dy, x)                                   # for a few micro-batches
    started = loraga.start("lora-ga", W=W, estimate=estimate, rank=8, anchor="in_place")
    loraga.save_peft("adapter", {"layers.0": started}, relative_to="anchored", base_name="changed-base")

Arrays are read where they lie (DLPack); what is changed in place is said to be. Wrong arguments are refused with a
sentence: TypeError for what they are, ValueError for what is in them.
"""

from ._arrays import Array
from ._files import (
    Loaded,
    combine,
    load_peft,
    merge,
    merge_peft,
    save_gguf,
    save_peft,
)
from ._kept import load_starts, save_starts
from ._loraga import (
    Estimate,
    Inputs,
    Record,
    add_batches,
    effective_rank,
    methods,
    set_threads,
    threads,
)
from ._loraga import version as __version__
from ._start import Start, start, start_all
from ._svd import SVD, Alignment, alignment, svd, top

__all__ = [
    "SVD",
    "Alignment",
    "Array",
    "Estimate",
    "Inputs",
    "Loaded",
    "Record",
    "Start",
    "__version__",
    "add_batches",
    "alignment",
    "combine",
    "effective_rank",
    "load_peft",
    "load_starts",
    "merge",
    "merge_peft",
    "methods",
    "save_gguf",
    "save_peft",
    "save_starts",
    "set_threads",
    "start",
    "start_all",
    "svd",
    "threads",
    "top",
]
