#!/usr/bin/env bash
# rehearse.sh [BUILD]: run.sh's whole path without a GPU: tiny sizes, the double in place of the CUDA libraries, a stand-in for
# nvidia-smi; faults are planted to see that the record names them. Says how long each part took. Writes no result.
# BUILD (build/gpu-rehearsal) is a build with the double; where it has no perf_double, it is configured here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source cmake/setup.sh
export PYTHONDONTWRITEBYTECODE=1
build=${1:-build/gpu-rehearsal}
need_packages g++ cmake ninja-build libeigen3-dev catch2 nlohmann-json3-dev libcli11-dev
if [[ ! -f $build/build.ninja ]]; then
  cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DLORAGA_BUILD_BENCH=ON \
    "-DLORAGA_TEST_ONLY=${ONLY:-/tests/(linalg|optim)/}" > $build.configure.log 2>&1 || { cat $build.configure.log; exit 1; }
fi
cmake --build $build ${JOBS:+-j "$JOBS"} --target unit_double perf_double
/usr/bin/env python3 bench/cuda/rehearsal.py "$build" build/gpu-rehearsal-out
