#!/usr/bin/env bash
# The documentation site: build/site/index.html, static pages that need no server and no network.
# --check also fails for a broken link or anchor, a missing picture, a request to another host, and C++ that nothing compiles.
# --out FOLDER writes the site there.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh

check='' out=build/site
while [[ $# -gt 0 ]]; do
  case $1 in
    --check) check=yes ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    --help) sed -n '2,4s/^# //p' docs/site.sh; exit 0 ;;
    *) echo "docs/site.sh: $1 is unknown, expected --check, --out FOLDER or --help" >&2; exit 2 ;;
  esac
  shift
done
need_packages python3 python3-venv
need_venv build/site-venv docs/site/requirements.txt
export PYTHONDONTWRITEBYTECODE=1

python3 docs/site/stage.py build/site-pages ${check:+--strict}
rm -rf "$out"
build/site-venv/bin/sphinx-build -q -W --keep-going -E -d build/site-trees -c docs/site build/site-pages "$out"
rm -rf "$out/.buildinfo" "$out/objects.inv"
if [[ -n $check ]]; then python3 docs/site/check.py "$out"; fi
echo "$out/index.html"
