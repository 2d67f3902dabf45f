#!/usr/bin/env bash
# check.sh COMPILER SNIPPETS FLAG...: everything.cpp must compile without a warning: as C++20 and as C++23, and at -O0 to
# -O3, because some warnings are the optimiser's. SNIPPETS is where the README's program was extracted to.
set -u
compiler=$1 snippets=$2
shift 2
here=$(dirname "$0")
command -v "$compiler" > /dev/null || { echo "no $compiler"; exit 77; }
fail=0
check() {  # FLAG...
  local out
  out=$("$compiler" -Wall -Wextra -Wshadow -Wconversion -Wpedantic "$@" -I"$snippets" -o /dev/null "$here/everything.cpp" 2>&1) ||
    { echo "$out" | head -20; fail=1; }
  if grep 'warning:' <<< "$out"; then echo "with $*"; fail=1; fi
}
if [[ $compiler == *clang* ]]; then  # its warnings do not depend on the level
  for standard in c++20 c++2b; do check "$@" -std=$standard -fsyntax-only; done
else
  set -- "$@" --param=ggc-min-heapsize=4000000  # a tenth less time, for half a gigabyte
  check "$@" -std=c++2b -O0 -c
  for level in 1 2 3; do check "$@" -std=c++20 -O$level -c; done
fi
exit $fail
