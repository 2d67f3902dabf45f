#!/usr/bin/env python3
"""Lines a compiler prints for typical mistakes, and for README's swaps: python3 bench/compile/mistakes.py OUT.json
LABEL=INCLUDE_FOLDER ... [--eigen FOLDER]. 0 lines: it compiles."""
import argparse
import json
import pathlib
import shutil
import subprocess
import tempfile

SETTING = """#include <loraga/cpu.hpp>
using namespace loraga;
using host_view = matrix_view<float, host_space>;
void f(cpu& be, lora<float, cpu>& adapter, host_view W, matrix_view<float const, host_space> const_W,
       matrix_view<float, device_space> far_W, dense_gradient<cpu>& G,
       std::vector<layer<lora<float, cpu>, host_view, dense_gradient<cpu>>>& layers, lora<bf16, cpu>& narrow,
       adamw<float, cpu>& optimiser) {
  (void)be, (void)adapter, (void)W, (void)const_W, (void)far_W, (void)G, (void)layers, (void)narrow, (void)optimiser;
  %s
}
"""
LINES = {
    "arguments in another order": "initialise(be, adapter, lora_ga_init{}, automatic_svd{}, W, G, in_place_anchor{});",
    "LoRA-GA without a gradient": "initialise(be, adapter, lora_ga_init{}, W, automatic_svd{}, in_place_anchor{});",
    "a gradient that is a view": "initialise(be, adapter, lora_ga_init{}, W, automatic_svd{}, W, in_place_anchor{});",
    "CorDA from a gradient": "initialise(be, adapter, corda_init{}, W, automatic_svd{}, G, in_place_anchor{});",
    "PiSSA without W": "initialise(be, adapter, pissa_init{}, automatic_svd{}, in_place_anchor{});",
    "W in another memory": "initialise(be, adapter, lora_ga_init{}, far_W, automatic_svd{}, G, in_place_anchor{});",
    "a const W in place": "initialise(be, adapter, lora_ga_init{}, const_W, automatic_svd{}, G, in_place_anchor{});",
    "no anchor": "initialise(be, adapter, lora_ga_init{}, W, automatic_svd{}, G);",
    "a vector of layers": "initialise(be, layers, lora_ga_init{}, automatic_svd{}, in_place_anchor{});",
    "an optimiser of another type": "add_adapter(be, optimiser, narrow, {});",
    "swap: pissa_init": "initialise(be, adapter, pissa_init{}, W, automatic_svd{}, G, in_place_anchor{});",
    "swap: kaiming_init": "initialise(be, adapter, kaiming_init{}, W, automatic_svd{}, G, in_place_anchor{});",
    "swap: dense_gradient": "dense_gradient<cpu> other(be, 8, 8, {.rank = 8});\n  (void)other;",
}


def complaint(compiler, include, eigen, line):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "mistake.cpp"
        file.write_text(SETTING % line)
        run = subprocess.run([compiler, "-std=c++20", "-fsyntax-only", f"-I{include}", "-isystem", eigen, str(file)],
                             capture_output=True, text=True)
        return len(run.stderr.splitlines()) if run.returncode else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("headers", nargs="+", metavar="LABEL=FOLDER")
    parser.add_argument("--eigen", default="/usr/include/eigen3")
    options = parser.parse_args()
    compilers = [c for c in ("g++", "clang++") if shutil.which(c)]
    versions = {c: subprocess.run([c, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
                for c in compilers}
    rows = {}
    for name, line in LINES.items():
        rows[name] = {label: {c: complaint(c, folder, options.eigen, line) for c in compilers}
                      for label, folder in (h.split("=", 1) for h in options.headers)}
        print(f"{name:30}", *(f"{label}: {', '.join(f'{c} {n}' for c, n in counts.items())};"
                              for label, counts in rows[name].items()))
    options.out.write_text(json.dumps({"compilers": versions, "lines": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
