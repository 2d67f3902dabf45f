#!/usr/bin/env bash
# killed.sh VICTIM MPIRUN...: a rank that is killed, leaves or throws at any phase ends the whole job within seconds.
set -u
victim=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail=0
complain() { echo "$1"; cat "$work/out"; fail=1; }
timeout 60 "$@" -n 3 "$victim" none none "$work/state" > "$work/out" 2>&1 || complain "the job fails without a fault"
[[ $(grep -c '^done$' "$work/out") == 3 ]] || complain "not every rank was done"
before=$(sha256sum < "$work/state")
for phase in combine start step checkpoint; do
  for how in kill exit throw; do
    start=$SECONDS
    timeout 60 "$@" -n 3 "$victim" $phase $how "$work/state" > "$work/out" 2>&1
    code=$?
    [[ $code == 124 ]] && complain "$how at $phase: the job hangs"
    [[ $code == 0 ]] && complain "$how at $phase: the job succeeds"
    [[ $((SECONDS - start)) -gt 20 ]] && complain "$how at $phase: took $((SECONDS - start)) s to end"
    grep -q '^done$' "$work/out" && complain "$how at $phase: a rank went on"
    [[ $(sha256sum < "$work/state") == "$before" ]] || complain "$how at $phase: the checkpoint before it is gone"
  done
done
timeout 60 "$@" -n 3 "$victim" combine throw-told "$work/state" > "$work/out" 2>&1 && complain "a fault that was told does not fail"
[[ $(grep -c '^rank 2 of 3: a fault at combine$' "$work/out") == 3 ]] || complain "not every rank said the same"
exit $fail
