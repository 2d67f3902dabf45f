#!/usr/bin/env bash
# seeds.sh N: the tests on the double with the streams' work delayed by seeds 1 to N (100). Names what fails under which.
# seeds.sh PROGRAM FIRST LAST [TESTS]: the same of a program that is built, from one seed to another, for Catch's TESTS.
# The double's own tests choose their seeds themselves; those that fail each call in turn are left out.
set -uo pipefail
cd "$(dirname "$0")/../.."
if [[ $# -lt 2 ]]; then set -- build/core/tests/device_double/unit_double 1 "${1:-100}"; fi
program=$1 first=$2 last=$3
without='~[device_double]~[failures]~[nccl]'
IFS=, read -ra wanted <<< "${4:-}"
tests=$without
if [[ ${#wanted[@]} -gt 0 ]]; then
  tests=
  for one in "${wanted[@]}"; do tests+="${tests:+,}$one$without"; done
fi
failed=0
for ((seed = first; seed <= last; seed++)); do
  said=$(LORAGA_DOUBLE_SEED=$seed "$program" "$tests" 2>&1) && continue
  failed=1
  echo "seed $seed:"
  grep -E 'FAILED:|ERROR: AddressSanitizer|now that the work runs|its work failed|^test cases' <<< "$said" | sort | uniq -c
done
exit $failed
