#!/usr/bin/env bash
# The main job: sets up what is missing, builds, and runs the comparison. `bash examples/run.sh --help` lists options;
# `--device cuda` builds with CUDA, runs on a GPU and writes to out/finetune-cuda; `--sweep` chooses each method's
# learning rate anew and writes examples/finetune/best_rates.json; `--build-only`, as the only or last word, stops there.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh

need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libcli11-dev dataset-fashion-mnist gnuplot-nox
device=cpu out= before=
for word in "$@"; do
  case $before in --out) out=$word ;; --device) device=$word ;; esac
  case $word in --out=*) out=${word#--out=} ;; --device=*) device=${word#--device=} ;; esac
  before=$word
done
build=build/release cuda=OFF usual_out=out/finetune
if [[ $device == cuda ]]; then
  build=build/release-cuda cuda=ON usual_out=out/finetune-cuda
  command -v nvcc > /dev/null || {
    echo "--device cuda needs the CUDA toolkit's compiler nvcc on PATH (often in /usr/local/cuda/bin)" >&2
    exit 1
  }
fi
out=${out:-$usual_out}
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DLORAGA_BUILD_TESTS=OFF -DLORAGA_BUILD_EXAMPLES=ON \
  -DLORAGA_CUDA=$cuda > $build.configure.log || { cat $build.configure.log; exit 1; }
echo "building (first time: about a minute)"
cmake --build $build
[[ $before == --build-only ]] && exit

data=build/fashion-mnist
bash examples/data/unpack.sh /usr/share/datasets/fashion-mnist $data

touch build/started
rm -f "$out/curves.png"
$build/examples/finetune --data $data --cache build --out "$out" --rates examples/finetune/best_rates.json "$@"

if [[ $out/summary.json -nt build/started ]]; then
  [[ $(wc -l < "$out/curves.csv") -gt 1 ]] && gnuplot -e "out='$out'" examples/finetune/curves.gp
  echo && ls "$out"/summary.json "$out"/curves.*
fi
