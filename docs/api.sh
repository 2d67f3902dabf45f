#!/usr/bin/env bash
# The API reference from the docstrings of include/loraga: writes build/api/index.html and the pages beside it, or into the
# folder that is named. Needs python3 alone.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v python3 > /dev/null || { source cmake/setup.sh; need_packages python3; }
PYTHONDONTWRITEBYTECODE=1 exec python3 docs/api/generate.py "${1:-build/api}"
