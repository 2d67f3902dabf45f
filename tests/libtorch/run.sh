#!/usr/bin/env bash
# loraga::torch against a real LibTorch, on a CPU.
#   bash tests/libtorch/run.sh            PyPI's torch (cmake/libtorch_requirements.txt), in build/libtorch
#   bash tests/libtorch/run.sh --debian   Debian's libtorch-dev
# Words behind it go to Catch2. LIBTORCH_ROOT=FOLDER takes the LibTorch that lies there.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh

need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev catch2
name=libtorch-tests
if [[ ${1:-} == --debian ]]; then
  shift
  need_packages libtorch-dev
  name=libtorch-tests-debian TORCH_ROOT=/usr
else
  need_libtorch
fi
build=build/$name
bash tests/docs/extract.sh $build/docs docs/libtorch.md
cmake -S tests/libtorch -B $build -G Ninja -DTORCH_ROOT="$TORCH_ROOT" > $build.configure.log || { cat $build.configure.log; exit 1; }
echo "building with ${LIBTORCH_JOBS:-1} job(s): some minutes, three gigabytes a job"
cmake --build $build --target libtorch_tests -j "${LIBTORCH_JOBS:-1}" > $build.log || { tail -40 $build.log; exit 1; }
# LibTorch's and the library's threads would take each other's cores
OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 $build/libtorch_tests "$@"
