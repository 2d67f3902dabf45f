#!/usr/bin/env bash
# keep_ptxas.sh COMPILER ARGUMENT...: compiles, and keeps what ptxas says of registers and spills beside the object, in
# OBJECT.ptxas, so that it is there as long as the object is. Warnings are shown as ever.
set -u
before='' object=
for word; do
  [[ $before == -o ]] && object=$word
  before=$word
done
[[ -n $object ]] || exec "$@"
code=0
"$@" -Xptxas -v 2> "$object.ptxas" || code=$?
grep -v '^ptxas info\|^ *[0-9]* bytes stack frame' "$object.ptxas" >&2
exit $code
