#!/usr/bin/env bash
# check.sh FILE COMPILER FLAG...: FILE must compile as it is, and must not with -DREJECT; the compiler's complaint must
# then match the regular expression in FILE's line "// expect: ...".
set -u
file=$1
shift
if ! out=$("$@" -fsyntax-only "$file" 2>&1); then
  echo "$file does not compile without REJECT:" && echo "$out" | head -20
  exit 1
fi
if out=$("$@" -fsyntax-only -DREJECT "$file" 2>&1); then
  echo "$file compiles with REJECT, but must not"
  exit 1
fi
pattern=$(sed -n 's|^// expect: ||p' "$file")
if ! grep -Eq -- "$pattern" <<<"$out"; then
  echo "$file is refused, but not for the reason expected ($pattern):" && echo "$out" | head -20
  exit 1
fi
