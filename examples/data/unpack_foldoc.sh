#!/usr/bin/env bash
# unpack_foldoc.sh FROM TO: unpacks the Free On-line Dictionary of Computing as Debian's dict-foldoc ships it (GFDL). An
# edition other than that of the records in bench/results is said, and used.
set -euo pipefail
from=$1 to=$2
[[ -e $to/complete ]] && exit 0
for name in foldoc.index foldoc.dict.dz; do
  [[ -r $from/$name ]] || { echo "$from/$name is missing (Debian package dict-foldoc)" >&2; exit 1; }
done
mkdir -p "$to"
cp "$from/foldoc.index" "$to/foldoc.index"
gunzip -c "$from/foldoc.dict.dz" > "$to/foldoc.dict"  # dictd's packing is gzip with an index of its own
hash=$(cat "$to/foldoc.index" "$to/foldoc.dict" | sha256sum | cut -d' ' -f1)
[[ $hash == c7ed232fd6bbc7acc62bba638c4a41a8f42172cd6c035ba24525d5421f68f757 ]] ||
  echo "dict-foldoc is another edition than that of the records (SHA-256 $hash): losses will differ from theirs" >&2
touch "$to/complete"
