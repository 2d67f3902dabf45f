#!/usr/bin/env bash
# The bridge to ggml (include/loraga/ggml) and its example, against a real ggml: the package libggml-python, which brings
# its headers and libraries. No test of `tests/run.sh`, because that needs no package of Python's.
# GGML=FOLDER takes another one, with include/ and lib64/ or lib/.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh
[[ ${1:-} == --help ]] && { sed -n '2,4s/^# //p' "$0"; exit 0; }
[[ $# -eq 0 ]] || { echo "tests/ggml/run.sh: $1 is unknown, expected --help" >&2; exit 2; }
need_packages g++ libeigen3-dev catch2 python3 python3-venv

ggml=${GGML:-}
if [[ -z $ggml ]]; then
  need_venv build/ggml-venv tests/ggml/requirements.txt
  ggml=$(echo build/ggml-venv/lib/python3*/site-packages/libggml)
fi
libraries=$(cd "$ggml"/lib64 2> /dev/null || cd "$ggml"/lib && pwd)
work=build/ggml
mkdir -p $work
flags=(-std=c++20 -Wall -Wextra -Wshadow -Wconversion -Iinclude -isystem /usr/include/eigen3
  -isystem "$ggml/include" -DGGML_SHARED -DGGML_BACKEND_SHARED)
link=("-L$libraries" "-Wl,-rpath,$libraries" -lggml -lggml-cpu -lggml-base -pthread)
compile() {  # SOURCE OBJECT FLAG..., unless nothing it is made of has changed
  if [[ ! -e $2 || -n $(find include "$(dirname "$1")" tests/ggml -newer "$2" -name '*.[ch]pp' -print -quit) ]]; then
    g++ "${flags[@]}" "${@:3}" -c "$1" -o "$2"
  fi
}
for header in include/loraga/ggml/*.hpp; do  # each alone, without a warning
  for compiler in g++ clang++; do
    command -v $compiler > /dev/null || continue
    $compiler "${flags[@]}" -Wpedantic -Werror -fsyntax-only -x c++ - <<< "#include <${header#include/}>"
  done
done
compile tests/support/main.cpp $work/main.o -Og
compile tests/ggml/views.cpp $work/views.o -Og
compile tests/ggml/linear.cpp $work/linear.o -Og
compile examples/ggml_bridge.cpp $work/example.o -O2 -march=native
g++ $work/main.o $work/views.o $work/linear.o -o $work/tests "${link[@]}"
g++ $work/example.o -o $work/ggml_bridge "${link[@]}"
$work/tests
$work/ggml_bridge
