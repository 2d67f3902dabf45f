#!/usr/bin/env bash
# first_adapter.sh PROGRAM FOLDER [PYTHON LOAD.py]: docs/first-adapter.md's program learns and leaves the files that it speaks
# of, in a fresh FOLDER. With a Python that has torch and PEFT, its adapter gives the same outputs there.
set -euo pipefail
program=$1 folder=$2
rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"
"$program" > losses
"$program" > /dev/null  # once more: files are replaced
awk '/^step/ { loss = $4; if (NR == 1) first = loss } END { exit !(NR == 6 && loss < 0.5 * first) }' losses ||
  { echo "first_adapter: the loss does not halve" >&2; exit 1; }
for file in base/model.safetensors adapter/adapter_config.json adapter/adapter_model.safetensors said.safetensors; do
  [[ -s $file ]] || { echo "first_adapter: $file is missing" >&2; exit 1; }
done
if [[ $# -gt 2 ]]; then "$3" "$4"; fi
