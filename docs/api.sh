#!/usr/bin/env bash
# The API reference from the docstrings of include/loraga: writes build/api/index.html, and pages beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONDONTWRITEBYTECODE=1 exec python3 docs/api/generate.py "${1:-build/api}"
