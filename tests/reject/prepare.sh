#!/usr/bin/env bash
# prepare.sh SOURCES FOLDER COMPILER FLAG...: precompiles what the files of SOURCES include, for COMPILER and for clang
# where it is at hand, and compiles all files but the CUDA ones as they are, each in a namespace of its own.
set -eu
sources=$1 folder=$2
shift 2
mkdir -p "$folder"
printf '#include <loraga/%s>\n' cpu.hpp distributed.hpp > "$folder/cpu.hpp"
"$@" -x c++-header "$folder/cpu.hpp" -o "$folder/cpu.hpp.gch"
for file in "$sources"/*.cpp; do
  name=$(basename "$file" .cpp)
  [[ $name == cuda_* ]] && continue
  echo "namespace $name {"
  echo "#line 1 \"$file\""
  sed '/^#include/d' "$file"
  echo "}"
done > "$folder/all.cpp"
"$@" -include "$folder/cpu.hpp" -fsyntax-only "$folder/all.cpp"
if clang=$(command -v clang++ || command -v clang++-14); then
  shift
  "$clang" "$@" -x c++-header "$folder/cpu.hpp" -o "$folder/cpu.pch"
  echo "$clang" > "$folder/clang"
fi
