#!/usr/bin/env bash
# The tests: sets up what is missing, builds, and runs them through ctest.
# --sanitize: with the address and undefined-behaviour sanitizers, compiled for this machine's processor.
# --cuda: on the CUDA backend; needs nvcc. Without a GPU everything is built and every test reported as skipped.
# --cuda --record: on a GPU, into bench/results: the tests, also under compute-sanitizer, and what it takes (bench/cuda/run.sh).
# --only REGEX: of the unit tests shared by all backends only files that match; with --sanitize no other tests either.
# --one FILE: only that test file, in a build of its own: after the first time a change to it is compiled and run in seconds.
# Further arguments go to ctest (for example -R lora).
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh
mkdir -p build

refuse() { echo "tests/run.sh: $1" >&2; exit 2; }
kind=plain record= only= one= flags=(-DCMAKE_CXX_FLAGS_RELEASE=-Og) target=all
while [[ $# -gt 0 ]]; do
  case $1 in
    --sanitize)
      [[ $kind == plain ]] || refuse "--sanitize and --cuda exclude each other"
      kind=sanitize
      flags=(-DCMAKE_CXX_FLAGS_RELEASE=-Og
        "-Dloraga_test_options=-march=native;-fsanitize=address,undefined;-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g1") ;;
    --cuda)
      [[ $kind == plain ]] || refuse "--sanitize and --cuda exclude each other"
      kind=cuda target=unit_cuda
      architecture=90 optimise="-O0 -Xptxas=-O0"  # nothing runs
      if nvidia-smi > /dev/null 2>&1; then architecture=native optimise=-O1; fi
      flags=(-DLORAGA_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=$architecture "-DCMAKE_CUDA_FLAGS_RELEASE=$optimise") ;;
    --record) record=yes ;;
    --only) only=$2; shift ;;
    --one) one=$2; shift ;;
    --help) sed -n '2,9s/^# //p' "$0"; exit 0 ;;
    *) break ;;
  esac
  shift
done
for word in "$@"; do
  case $word in --sanitize | --cuda | --record | --only | --one) refuse "$word comes before arguments for ctest" ;; esac
done
[[ -z $record || ($kind == cuda && -z $only && $# -eq 0) ]] || refuse "--record goes with --cuda alone"
if [[ -n $one ]]; then
  [[ $kind == plain && -z $only && -z $record && $# -eq 0 ]] || refuse "--one goes alone"
  one=$(realpath --relative-to=tests "$one")
  [[ -f tests/$one ]] || refuse "there is no tests/$one"
  kind=one only="/tests/${one//./[.]}\$" target=unit
  flags+=(-DCMAKE_UNITY_BUILD=OFF)
fi
if [[ $kind == cuda ]]; then
  command -v nvcc > /dev/null || { echo "--cuda needs the CUDA toolkit's compiler nvcc on PATH (often in /usr/local/cuda/bin)" >&2; exit 1; }
fi
if [[ -n $record ]]; then
  nvidia-smi -L > /dev/null 2>&1 || { echo "there is no GPU: nothing to record" >&2; exit 77; }
  exec bash bench/run.sh cuda
fi
if [[ -d .deps ]]; then  # packages brought along, for machines without a network (cmake/bring_packages.sh)
  export CMAKE_PREFIX_PATH=$PWD/.deps/usr
else
  need_packages g++ cmake ninja-build libeigen3-dev catch2 nlohmann-json3-dev libcli11-dev libicu-dev libopenmpi-dev openmpi-bin pkg-config
fi

[[ $kind == sanitize && -n $only ]] && target=unit
build=build/tests-$kind
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release "-DLORAGA_TEST_ONLY=$only" "${flags[@]}" \
  > $build.configure.log 2>&1 || { cat $build.configure.log; exit 1; }
echo "building the tests (first time: some minutes)"
cmake --build $build --target $target
if [[ $kind == one ]]; then exec $build/tests/unit; fi
[[ $kind == cuda ]] && set -- -L cuda "$@"
[[ $kind == sanitize && -n $only ]] && set -- -L unit "$@"
ctest --test-dir $build --no-tests=error --output-on-failure --parallel "$(nproc)" "$@"
