#!/usr/bin/env bash
# check.sh KIND SOURCE BUILD WORK: a fresh consumer project of KIND (installed | subdirectory) is configured, built and run.
set -eu
export CMAKE_GENERATOR=Ninja  # what the tests themselves are built with; make may be missing
kind=$1 source=$2 build=$3 work=$4
rm -rf "$work"
mkdir -p "$work"
if [[ $kind == installed ]]; then
  cmake --install "$build" --prefix "$work/prefix" > /dev/null
  cmake -S "$source/tests/package/installed" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" > "$work/log" || { cat "$work/log"; exit 1; }
  if cmake -S "$source/tests/package/installed" -B "$work/missing" -DCMAKE_PREFIX_PATH="$work/prefix" -DCOMPONENT=cuda > "$work/log" 2>&1; then
    echo "a component that is not installed was found"; exit 1
  fi
  tr '\n' ' ' < "$work/log" | tr -s ' ' | grep -q "component 'cuda' is not part of this installation" ||
    { echo "a missing component is not named:"; cat "$work/log"; exit 1; }
else
  cmake -S "$source/tests/package/subdirectory" -B "$work/build" -DLORAGA_SOURCE="$source" > "$work/log" || { cat "$work/log"; exit 1; }
fi
cmake --build "$work/build" > "$work/log" || { cat "$work/log"; exit 1; }
"$work/build/consumer"
