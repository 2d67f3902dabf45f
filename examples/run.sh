#!/usr/bin/env bash
# Sets up what is missing, builds and runs an example.
#   bash examples/run.sh             the main job: starts compared on a small vision transformer, into out/vision; with
#                                    --model convolution on a convolutional network, into out/convolution
#   bash examples/run.sh sentiment   a real pre-trained text encoder fine-tuned for sentiment, into out/sentiment; the
#                                    same command goes on after it was killed
#   bash examples/run.sh llm         a quantised language model that learns a dictionary, into out/language, with
#                                    adapters for PEFT and llama.cpp; goes on likewise
#   bash examples/run.sh ranks       a few steps of the main job and of the language model under mpirun, with 1, 2 and 4
#                                    ranks, into out/ranks; fails if ranks have other losses than one process
#   bash examples/run.sh libtorch    a network of LibTorch fine-tuned with the modules of loraga/torch, into out/libtorch
#                                    (--debian, --steps N, --out FOLDER, --build-only)
#   bash examples/run.sh plain       the training loop in plain C++ (plain_loop.cpp): losses of LoRA and LoRA-GA, and an adapter
#                                    for PEFT in out/plain; --out FOLDER is its only option
# `--help` after the others lists options; `--device cuda` (not for ranks) builds with CUDA, runs on a GPU and writes to
# out/...-cuda; `--build-only`, as the only or last word, builds all examples and stops; after `sentiment`, `llm` or
# `ranks` it builds that one and fetches its model and data. The main job's `--sweep` chooses each method's learning rate
# anew and writes examples/vision/best_rates.json (best_rates_convolution.json).
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh

if [[ ${1:-} == libtorch ]]; then
  shift
  source examples/libtorch/run.sh
  exit
fi
job=vision
case ${1:-} in
  sentiment) job=sentiment; shift ;;
  llm) job=language; shift ;;
  ranks) job=ranks; shift ;;
  plain) job=plain_loop; shift ;;
esac
packages=(g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libcli11-dev libicu-dev gnuplot-nox)
case $job in
  vision) packages+=(dataset-fashion-mnist) ;;
  sentiment) packages+=(python3-pip unzip) ;;
  language) packages+=(python3-pip unzip dict-foldoc) ;;
  ranks) packages+=(python3-pip unzip dict-foldoc dataset-fashion-mnist libopenmpi-dev openmpi-bin) ;;
esac
need_packages "${packages[@]}"
if [[ $job == plain_loop && ! "$*" =~ ^(--build-only|--out[=\ ][^\ ]+)?$ ]]; then
  echo "examples/run.sh plain: $* is unknown, expected --out FOLDER or --build-only" >&2
  exit 2
fi
device=cpu out= before= plan= model= name=$job rates=best_rates
for word in "$@"; do
  case $before in --out) out=$word ;; --device) device=$word ;; --model) model=$word ;; esac
  case $word in
    --out=*) out=${word#--out=} ;;
    --device=*) device=${word#--device=} ;;
    --model=*) model=${word#--model=} ;;
    --plan | --plan=*) plan=yes ;;
  esac
  before=$word
done
[[ $job == plain_loop ]] && name=plain
[[ $job == vision && $model == convolution ]] && name=convolution rates=best_rates_convolution
build=build/release cuda=OFF usual_out=out/$name
if [[ $device == cuda ]]; then
  build=build/release-cuda cuda=ON usual_out=out/$name-cuda
  command -v nvcc > /dev/null || {
    echo "--device cuda needs the CUDA toolkit's compiler nvcc on PATH (often in /usr/local/cuda/bin)" >&2
    exit 1
  }
fi
out=${out:-$usual_out}
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=${LORAGA_EXAMPLE_FLAGS:--O3 -DNDEBUG}" \
  -DLORAGA_BUILD_TESTS=OFF -DLORAGA_BUILD_EXAMPLES=ON -DLORAGA_CUDA=$cuda > $build.configure.log || { cat $build.configure.log; exit 1; }
echo "building (first time: one to three minutes)"
target=$job
[[ $job == vision && $before == --build-only ]] && target=all  # the tools as well
cmake --build $build --target $target
[[ $job == ranks && " $* " == *" --examples vision "* && " $* " != *" vision language "* ]] && job=ranks-vision  # no language data
case $job in
  sentiment)
    bash examples/data/fetch.sh minilm build/minilm
    bash examples/data/fetch.sh vader build/vader ;;
  language | ranks)
    bash examples/data/fetch.sh smollm2 build/smollm2
    bash examples/data/unpack_foldoc.sh /usr/share/dictd build/foldoc ;;
esac
[[ $before == --build-only ]] && exit
[[ $job == plain_loop ]] && exec $build/examples/plain_loop "$out"

if [[ $job == vision || $job == ranks* ]]; then
  data=build/fashion-mnist
  bash examples/data/unpack.sh /usr/share/datasets/fashion-mnist $data
fi
if [[ $job == ranks* ]]; then
  source examples/ranks/run.sh
  exit
elif [[ $job == vision ]]; then
  more=(--data $data --cache build --rates examples/vision/$rates.json)
elif [[ $job == sentiment ]]; then
  more=(--data build/vader --model build/minilm)
else
  more=(--data build/foldoc/foldoc.dict --model build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf)
fi
touch build/started
[[ -n $plan ]] || rm -f "$out/curves.png"
$build/examples/$job "${more[@]}" --out "$out" "$@"

if [[ $out/summary.json -nt build/started ]]; then
  [[ $(wc -l < "$out/curves.csv") -gt 1 ]] && gnuplot -e "out='$out'" examples/training/curves.gp
  echo && ls "$out"/summary.json "$out"/curves.*
fi
