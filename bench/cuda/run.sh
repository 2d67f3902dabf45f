#!/usr/bin/env bash
# The record of a GPU in one command that keeps to a budget of time and leaves its results in a folder of yours.
#   bench/cuda/run.sh --out FOLDER [--budget SECONDS] [--parts P...] [--after FOLDER]
# Needs Python 3.10, the CUDA runtime libraries (the toolkit's or those of Python's wheels) and what prepare.sh made, in
# build/gpu-kit; no compiler, no network. --help says more.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
exec python3 "$(dirname "${BASH_SOURCE[0]}")/record.py" "$@"
