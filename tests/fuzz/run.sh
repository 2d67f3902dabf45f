#!/usr/bin/env bash
# Fuzzes what reads strangers' files: run.sh [SECONDS for each target, 20 unless told]. Needs clang with libFuzzer; sets up
# what is missing. tests/fuzz/corpus/<target> has seeds written by hand, <target>.tar.xz what was found since; --keep puts
# what is found now into it. A failure leaves its input in build/fuzz.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh
keep=
if [[ ${1:-} == --keep ]]; then keep=yes; shift; fi
seconds=${1:-20}
need_packages clang libclang-rt-14-dev xz-utils libeigen3-dev nlohmann-json3-dev
out=build/fuzz
mkdir -p $out
targets=(safetensors peft_config checkpoint gguf)
build() {
  clang++ -std=c++20 -O1 -g1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Iinclude -isystem /usr/include/eigen3 \
    tests/fuzz/$1.cpp -o build/fuzz/$1
}
export -f build
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'build "$@"' _ {}
fuzz() {  # TARGET SECONDS
  mkdir -p $out/corpus-$1
  tar -C $out/corpus-$1 -xJf tests/fuzz/corpus/$1.tar.xz
  echo "fuzzing $1 for $2 s"
  $out/$1 -max_total_time="$2" -timeout=10 -rss_limit_mb=4000 -max_len=16384 -artifact_prefix=$out/$1- \
    $out/corpus-$1 tests/fuzz/corpus/$1 > $out/$1.log 2>&1 || { tail -40 $out/$1.log; return 255; }  # xargs starts no other
  echo "$1: $(grep -E 'DONE|Done' $out/$1.log | tail -1)"
}
export -f fuzz
export out
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {} "$@"' _ "$seconds"
[[ -n $keep ]] || exit 0
for t in "${targets[@]}"; do
  rm -rf $out/merged-$t && mkdir $out/merged-$t
  $out/$t -merge=1 -max_len=16384 $out/merged-$t tests/fuzz/corpus/$t $out/corpus-$t > $out/$t-merge.log 2>&1
  tar -C $out/merged-$t --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cJf tests/fuzz/corpus/$t.tar.xz .
done
