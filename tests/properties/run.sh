#!/usr/bin/env bash
# Properties: 24,000 matrices of 24 structured families through every SVD method and type, each answer judged in double
# (some minutes), into bench/results/svd_properties.json.  run.sh [COUNT [FIRST]]: fewer, or others, into no file.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh
need_packages g++ libeigen3-dev nlohmann-json3-dev
mkdir -p build
program=build/svd_properties
if [[ ! -e $program || -n $(find include tests/svd tests/support tests/properties -newer $program -name '*.[ch]pp' -print -quit) ]]; then
  echo "building (two minutes)"
  g++ -std=c++20 -O2 -march=native -Iinclude -isystem /usr/include/eigen3 tests/properties/svd.cpp -o $program -pthread
fi
if [[ $# -eq 0 ]]; then exec $program 24000 0 bench/results/svd_properties.json; fi
exec $program "$1" "${2:-0}" -
