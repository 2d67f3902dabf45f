"""The parts of the reference: which header is on which page, and which snippets show what."""
import re
from pathlib import Path

import rules

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PARTS = [  # (file, title, what it is, headers or folders)
    ("start", "Starting an adapter", "Initialisers, anchors, and what ties them to a layer.", ["initialise.hpp", "start/", "init/"]),
    ("adapter", "Adapters", "LoRA and its relatives, around your own base product.", ["adapter/"]),
    ("gradient", "Gradient estimates", "Accumulators of the mean weight gradient, and of input statistics.", ["gradient/"]),
    ("ranks", "Many ranks", "Estimates, starts and steps beyond one process; docs/ranks.md shows them at work.", ["distributed/"]),
    ("svd", "Truncated SVDs", "Methods that find leading singular triplets.", ["svd/"]),
    ("scale", "Scale and rank", "s from alpha and the rank; ranks per layer.", ["scaling.hpp", "rank_allocation.hpp"]),
    ("optim", "Optimiser", "AdamW with LoRA+ groups, schedules, clipping.", ["optim/"]),
    ("diagnostics", "Diagnostics", "How good a start is.", ["diagnostics/"]),
    ("contract", "Concepts", "What a class of your own must have; docs/contract.md says the same in prose.", ["concepts.hpp"]),
    ("io", "Files", "PEFT and GGUF adapters, safetensors, merging, checkpoints.", ["io/"]),
    ("ggml", "Around ggml", "Adapters in a ggml graph, on quantised weights too; docs/embedding.md shows them.", ["ggml/"]),
    ("backend", "Backends", "The CPU through Eigen, a GPU through CUDA.", ["backend/"]),
    ("torch", "LibTorch", "Modules with an adapter around LibTorch's own; docs/libtorch.md shows them at work.", ["torch/"]),
    ("core", "Views, memory, errors", "What everything is written with.", ["core/", "version.hpp"]),
    ("linalg", "Building blocks", "Elementwise work, sums, random matrices, orthonormal blocks, over any backend.", ["linalg/"]),
]
ROOFS = ("loraga.hpp", "cpu.hpp", "cuda.cuh", "distributed.hpp")  # hold includes only


def read_glossary():
    lines = (HERE / "glossary.txt").read_text().splitlines()
    return dict(l.split(None, 1) for l in lines if l and not l.startswith("#"))


def read_snippets():
    """{name: [(title, code)]} from docs/snippets, and each concept's smallest class from docs/contract.md."""
    shown, files = {}, {}
    for path in sorted((ROOT / "docs/snippets").glob("*.c*")):
        first, code = path.read_text().split("\n", 1)
        found = re.match(r"// shows (.+)", first)
        names = re.split(r",? +", found[1].strip()) if found else []
        files[path.name] = names
        for n in names:
            shown.setdefault(n, []).append((f"docs/snippets/{path.name}", code.strip("\n")))
    text = (ROOT / "docs/contract.md").read_text()
    for block in re.findall(r"<!-- snippet: contract.cpp -->\n```cpp\n(.*?)```", text, re.S):
        for concept in dict.fromkeys(re.findall(r"static_assert\(loraga::(\w+)<", block)):
            shown.setdefault(concept, []).append(("docs/contract.md", block.strip("\n")))
    return shown, files


def part_of(header):
    for part in PARTS:
        if any(rules.short(header).startswith(p) for p in part[3]):
            return part
    return None


def place_in_part(header):
    part = part_of(header)
    return next((i for i, p in enumerate(part[3]) if rules.short(header).startswith(p)), 0) if part else 0
