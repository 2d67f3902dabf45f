#!/usr/bin/env bash
# check.sh FILE COMPILER FLAG...: FILE must compile as it is, and must not with -DREJECT; the compiler's complaint must
# then match the regular expression in FILE's line "// expect: ...", within the number of lines of "// lines: ...", where
# there is one. LORAGA_CLANG, where it is set, names a second compiler that must complain as well.
set -u
file=$1
shift
if ! out=$("$@" -fsyntax-only "$file" 2>&1); then
  echo "$file does not compile without REJECT:" && echo "$out" | head -20
  exit 1
fi
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
refuses "$@"
if [[ -n ${LORAGA_CLANG:-} ]]; then
  shift
  refuses "$LORAGA_CLANG" "$@"
fi
