#!/usr/bin/env bash
# Fuzzes what reads strangers' files: run.sh [SECONDS for each target, 20 unless told]. Needs clang with libFuzzer; sets up
# what is missing. New inputs that reach new code go to build/fuzz/<target>; --keep merges them into tests/fuzz/corpus.
# A failure leaves its input in build/fuzz.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh
keep=
if [[ ${1:-} == --keep ]]; then keep=yes; shift; fi
seconds=${1:-20}
need_packages clang libclang-rt-14-dev libeigen3-dev nlohmann-json3-dev
out=build/fuzz
mkdir -p $out
targets=(safetensors peft_config checkpoint)
build() {
  clang++ -std=c++20 -O1 -g1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Iinclude -isystem /usr/include/eigen3 \
    tests/fuzz/$1.cpp -o build/fuzz/$1
}
export -f build
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'build "$@"' _ {}
for t in "${targets[@]}"; do
  mkdir -p $out/corpus-$t
  echo "fuzzing $t for $seconds s"
  $out/$t -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4000 -max_len=16384 -artifact_prefix=$out/$t- \
    $out/corpus-$t tests/fuzz/corpus/$t > $out/$t.log 2>&1 || { tail -40 $out/$t.log; exit 1; }
  grep -E 'DONE|Done' $out/$t.log
  if [[ -n $keep ]]; then $out/$t -merge=1 tests/fuzz/corpus/$t $out/corpus-$t > $out/$t-merge.log 2>&1; fi
done
