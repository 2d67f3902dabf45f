#!/usr/bin/env bash
# prepare.sh [FOLDER]: builds what run.sh needs on a GPU into one folder (build/gpu-kit) that can be carried to a machine with
# neither compiler nor network. Needs nvcc and no GPU.
# ARCHITECTURES=90-real (CMake's names), ONLY=REGEX for some test files, JOBS=N.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source cmake/setup.sh
export PYTHONDONTWRITEBYTECODE=1
folder=${1:-build/gpu-kit}
build=build/gpu-build
command -v nvcc > /dev/null || { echo "prepare.sh needs the CUDA toolkit's compiler nvcc on PATH (often in /usr/local/cuda/bin)" >&2; exit 1; }
if [[ -d .deps ]]; then  # packages brought along, for machines without a network (cmake/bring_packages.sh)
  export CMAKE_PREFIX_PATH=$PWD/.deps/usr
else
  need_packages g++ cmake ninja-build libeigen3-dev catch2 nlohmann-json3-dev libcli11-dev
fi
mkdir -p build "$folder"
# For any processor and any place: no -march=native, C++'s own library inside, no paths to libraries. The runner finds CUDA's.
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DCMAKE_CUDA_FLAGS_RELEASE=-O1 \
  -DLORAGA_CUDA=ON -DLORAGA_BUILD_TESTS=ON -DLORAGA_BUILD_BENCH=ON -DLORAGA_BUILD_EXAMPLES=ON "-DLORAGA_TEST_ONLY=${ONLY:-}" \
  "-DCMAKE_CUDA_ARCHITECTURES=${ARCHITECTURES:-90-real}" -DCMAKE_SKIP_RPATH=ON \
  "-DCMAKE_CUDA_COMPILER_LAUNCHER=bash;$PWD/bench/cuda/keep_ptxas.sh" \
  "-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++ -static-libgcc" > $build.configure.log 2>&1 || { cat $build.configure.log; exit 1; }
cmake --build $build ${JOBS:+-j "$JOBS"} --target perf cuda_loop unit_cuda
# a part of the tests has a part of the kernels: no record
python3 bench/cuda/kernels.py $build "$([[ ${ONLY:-} ]] && echo $build || echo bench/results)"
stripped=$(mktemp -d)
trap 'rm -rf "$stripped"' EXIT
for program in tests/cuda/unit_cuda bench/cuda/perf examples/cuda_loop; do
  strip -o "$stripped/$(basename $program)" $build/$program
done
python3 bench/cuda/kit.py "$folder" unit_cuda="$stripped/unit_cuda" perf="$stripped/perf" cuda_loop="$stripped/cuda_loop" \
  data/tests/interop/reference/minilm=tests/interop/reference/minilm
