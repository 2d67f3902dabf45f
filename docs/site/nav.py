"""The order of the site's pages. A page that is not there is left out; one of docs/ that is not named here comes last."""

GROUPS = [  # (title, [(file, what a reader finds there)]); "api" is the reference, which docs/api/generate.py writes
    ("Guide", [
        ("docs/first-adapter.md", "from nothing to a file that PEFT loads, in ten minutes"),
        ("docs/install.md", "every way of getting the headers"),
        ("docs/choosing.md", "which accumulator, SVD, scale, anchor; pitfalls"),
        ("docs/embedding.md", "in your own C++ loop, in CUDA, in ggml"),
        ("docs/libtorch.md", "around `torch::nn` modules in C++"),
        ("docs/python.md", "from numpy and torch arrays"),
        ("docs/tools.md", "start, convert, merge and plan without writing C++"),
        ("docs/interchange.md", "serve: PEFT, vLLM, llama.cpp; merging; checkpoints"),
        ("docs/quantised.md", "fine-tune a language model that stays in 4 bits"),
        ("docs/ranks.md", "many GPUs or machines"),
        ("docs/gpu.md", "streams, memory, mixed precision, what blocks"),
    ]),
    ("Reference", [
        ("api", "every public name, with compiled examples"),
        ("docs/contract.md", "a backend or a policy of your own"),
        ("docs/mathematics.md", "every formula"),
        ("docs/sources.md", "the papers, and where others differ"),
    ]),
    ("Measured", [
        ("docs/evidence.md", "what LoRA-GA brings, and where it does not"),
        ("docs/performance.md", "time and memory, beside their peers"),
    ]),
    ("The project", [
        ("docs/contributing.md", "how to add something, and what to run"),
        ("docs/house.md", "how the code is laid out, and why"),
        ("CHANGELOG.md", "what changed between versions"),
    ]),
]


def pages(root):
    """GROUPS with the pages that are there, and a last group of those that no group names."""
    there = [(title, [(file, what) for file, what in group if file == "api" or (root / file).exists()])
             for title, group in GROUPS]
    named = {file for _, group in GROUPS for file, _ in group}
    others = [f"docs/{p.name}" for p in sorted((root / "docs").glob("*.md")) if f"docs/{p.name}" not in named]
    return there + ([("More", [(file, "") for file in others])] if others else [])
