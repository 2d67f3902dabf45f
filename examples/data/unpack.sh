#!/usr/bin/env bash
# unpack.sh FROM TO: unpacks Fashion-MNIST as Debian's dataset-fashion-mnist ships it, and checks the contents.
set -euo pipefail
from=$1 to=$2
[[ -e $to/complete ]] && exit 0
mkdir -p "$to"
while read -r hash name; do
  [[ -r $from/$name.gz ]] || { echo "$from/$name.gz is missing (Debian package dataset-fashion-mnist)" >&2; exit 1; }
  gunzip -c "$from/$name.gz" > "$to/$name"
  echo "$hash  $to/$name" | sha256sum --check --quiet || { echo "$from/$name.gz does not hold the expected data" >&2; exit 1; }
done <<'LIST'
5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b t10k-images-idx3-ubyte
0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34 t10k-labels-idx1-ubyte
c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888 train-images-idx3-ubyte
bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9 train-labels-idx1-ubyte
LIST
touch "$to/complete"
