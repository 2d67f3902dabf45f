#!/usr/bin/env bash
# single.sh WORK [--build]: the library in one header (cmake/amalgamate.py), twice the same, whole, and without includes of
# its own. With --build: two files that include it are linked together, by g++ and clang++, and give the same bits as the
# headers it was made of.
source "$(dirname "$0")/tools.sh"
needs python3
python3 "$source/cmake/amalgamate.py" "$work/single"
(cd / && python3 "$source/cmake/amalgamate.py" "$work/again")
diff -r "$work/single" "$work/again" || fail "the result is not the same every time"

version=$(sed -n 's/^#define LORAGA_VERSION_[A-Z]* //p' "$source/include/loraga/version.hpp" | paste -sd.)
eigen=${LORAGA_EIGEN:-/usr/include/eigen3}
for file in loraga loraga_io; do
  header=$work/single/$file.hpp
  head -2 "$header" | grep -F "loraga $version:" > /dev/null || fail "$file.hpp does not begin with its version"
  head -2 "$header" | grep -F 'SPDX-License-Identifier: Apache-2.0' > /dev/null || fail "$file.hpp does not name its licence"
  if grep -nE '#include *[<"]loraga' "$header"; then fail "$file.hpp includes these"; fi
  [[ $(grep -c '#pragma once' "$header") == 1 ]] || fail "$file.hpp has not one '#pragma once'"
  if grep '^// loraga/' "$header" | sort | uniq -d | grep .; then fail "$file.hpp holds these twice"; fi
  if grep -oE '^#include <(Eigen|nlohmann|mpi|cuda)[^>]*>' "$header" | grep -vxF $'#include <Eigen/Core>\n#include <nlohmann/json.hpp>'; then
    fail "$file.hpp includes these"
  fi
done
if grep -n nlohmann "$work/single/loraga.hpp"; then fail "loraga.hpp needs JSON"; fi
# Everything that <loraga/cpu.hpp> includes is in it.
g++ -std=c++20 -I"$source/include" -isystem "$eigen" -M "$source/include/loraga/cpu.hpp" | tr -s ' \\' '\n' |
  sed -n "s|^$source/include/||p" | sort -u > "$work/wanted"
[[ $(wc -l < "$work/wanted") -gt 50 ]] || fail "what cpu.hpp includes is not known"
grep '^// loraga/' "$work/single/loraga.hpp" | sed 's|^// ||' | sort > "$work/held"
# a header that holds nothing but includes leaves no text
lacking=$(comm -23 "$work/wanted" "$work/held" | while read -r h; do grep -qE '^[^#/]' "$source/include/$h" && echo "$h"; done || true)
[[ -z $lacking ]] || fail "not in loraga.hpp: $lacking"
[[ $build ]] || exit 0

bash "$source/tests/docs/extract.sh" "$work/docs" "$source/README.md"
mkdir -p "$work/as/loraga/io"
echo '#include <loraga.hpp>' > "$work/as/loraga/cpu.hpp"
echo '#include <loraga_io.hpp>' > "$work/as/loraga/io/peft.hpp"
bits() {  # NAME COMPILER FLAG...
  local name=$1 file begin=$SECONDS
  mkdir -p "$work/$name"
  for file in first second; do
    quiet "${@:2}" -std=c++20 -O1 -Wall -Wextra -Werror -I"$work/docs" -isystem "$eigen" -c "$here/single/$file.cpp" -o "$work/$name/$file.o"
  done
  quiet "$2" "$work/$name/first.o" "$work/$name/second.o" -pthread -o "$work/$name/program"
  (cd "$work/$name" && ./program > bits)
  [[ $(wc -l < "$work/$name/bits") -gt 500 ]] || fail "$name: the program says too little"
  echo "$name: compiled and run in $((SECONDS - begin)) s"
}
bits headers g++ -I"$source/include"
bits single g++ -I"$work/as" -I"$work/single"
cmp "$work/headers/bits" "$work/single/bits" || fail "one header gives other bits than many"
bits clang clang++ -I"$work/as" -I"$work/single"
refused 'use one or the other' g++ -std=c++20 -fsyntax-only -I"$source/include" -I"$work/single" -isystem "$eigen" -x c++ - \
  <<< $'#include <loraga/version.hpp>\n#include <loraga.hpp>'
