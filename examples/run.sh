#!/usr/bin/env bash
# The main job: sets up what is missing, builds, and runs the comparison. `bash examples/run.sh --help` lists options;
# `--sweep` chooses each method's learning rate anew and writes examples/finetune/best_rates.json.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh

need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libcli11-dev dataset-fashion-mnist gnuplot-nox
build=build/release
out=out/finetune before=
for word in "$@"; do
  [[ $before == --out ]] && out=$word
  [[ $word == --out=* ]] && out=${word#--out=}
  before=$word
done
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DLORAGA_BUILD_TESTS=OFF -DLORAGA_BUILD_EXAMPLES=ON \
  > $build.configure.log || { cat $build.configure.log; exit 1; }
echo "building (first time: about a minute)"
cmake --build $build --target finetune

data=build/fashion-mnist
bash examples/data/unpack.sh /usr/share/datasets/fashion-mnist $data

touch build/started
rm -f "$out/curves.png"
$build/examples/finetune --data $data --cache build --out "$out" --rates examples/finetune/best_rates.json "$@"

if [[ $out/summary.json -nt build/started ]]; then
  [[ $(wc -l < "$out/curves.csv") -gt 1 ]] && gnuplot -e "out='$out'" examples/finetune/curves.gp
  echo && ls "$out"/summary.json "$out"/curves.*
fi
