#!/usr/bin/env bash
# The tests: sets up what is missing, builds, and runs them through ctest.
# --sanitize: with the address and undefined-behaviour sanitizers, compiled for this machine's processor.
# Further arguments go to ctest (for example -R lora).
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh

kind=plain flags=(-DCMAKE_CXX_FLAGS_RELEASE=-O2)
case ${1:-} in
  --sanitize)
    kind=sanitize
    flags=(-DCMAKE_CXX_FLAGS_RELEASE=-O1
      "-Dloraga_test_options=-march=native;-fsanitize=address,undefined;-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g1")
    shift ;;
  --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
esac
need_packages g++ cmake ninja-build libeigen3-dev catch2

build=build/tests-$kind
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release "${flags[@]}" \
  > $build.configure.log 2>&1 || { cat $build.configure.log; exit 1; }
echo "building the tests (first time: some minutes)"
cmake --build $build -j 2
ctest --test-dir $build --output-on-failure --parallel 2 "$@"
