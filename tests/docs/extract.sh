#!/usr/bin/env bash
# extract.sh FOLDER FILE.md...: writes each document's code blocks marked "<!-- snippet: NAME -->" to FOLDER/NAME, blocks
# of one name after another.
set -eu
folder=$1
shift
mkdir -p "$folder"
rm -f "$folder"/*.cpp "$folder"/*.py
awk -v folder="$folder" '
  /^<!-- snippet: / { name = $3; next }
  /^```(cpp|python)/ && name != "" { inside = 1; next }
  /^```/ && inside { inside = 0; name = ""; next }
  inside { print > (folder "/" name) }
' "$@"
