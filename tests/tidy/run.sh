#!/usr/bin/env bash
# clang-tidy over every .hpp of include/loraga, with templates instantiated by the reference's snippets: some two minutes.
# (Left out: .cuh headers, which need the CUDA toolkit, ggml/, which needs ggml, and torch/, LibTorch.)
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh
need_packages clang-tidy-14 libeigen3-dev nlohmann-json3-dev libopenmpi-dev
read -ra mpi < <(mpicxx --showme:incdirs)
all=build/tidy/all.cpp
mkdir -p build/tidy
{
  find include/loraga -name '*.hpp' ! -path '*/ggml/*' ! -path '*/torch/*' | sort | sed 's|^include/\(.*\)$|#include <\1>|'
  echo '#include "../../tests/docs/snippets_main.cpp"'
} > $all
clang-tidy-14 --quiet --config-file=.clang-tidy $all -- -std=c++20 -Iinclude -Idocs/snippets -isystem /usr/include/eigen3 "${mpi[@]/#/-isystem}" -w
echo "clang-tidy: clean"
