#!/usr/bin/env bash
# check.sh FILE FOLDER COMPILER FLAG...: FILE must not compile with -DREJECT (that it does without is seen by prepare.sh,
# which has filled FOLDER; for CUDA files here). The compiler's complaint, and clang's where it is at hand, must match the
# regular expression in FILE's line "// expect: ...", and have no more lines than "// lines: ..." says, where that is.
set -u
file=$1 folder=$2
shift 2
pattern=$(sed -n 's|^// expect: ||p' "$file")
limit=$(sed -n 's|^// lines: ||p' "$file")
refuses() {  # COMPILER FLAG...
  if out=$("$@" -fsyntax-only -DREJECT "$file" 2>&1); then
    echo "$file compiles with REJECT, but must not ($1)"
    exit 1
  fi
  if ! grep -Eq -- "$pattern" <<<"$out"; then
    echo "$file is refused, but not for the reason expected ($pattern; $1):" && echo "$out" | head -20
    exit 1
  fi
  if [[ -n $limit ]] && (($(wc -l <<<"$out") > limit)); then
    echo "$file is refused in more than $limit lines ($1):" && echo "$out"
    exit 1
  fi
}
if [[ $(basename "$file") == cuda_* ]]; then
  if ! out=$("$@" -fsyntax-only "$file" 2>&1); then
    echo "$file does not compile without REJECT:" && echo "$out" | head -20
    exit 1
  fi
  refuses "$@"
  exit
fi
refuses "$@" -include "$folder/cpu.hpp"
if [[ -e $folder/clang ]]; then
  shift
  refuses "$(cat "$folder/clang")" "$@" -include-pch "$folder/cpu.pch"
fi
