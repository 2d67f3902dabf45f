#!/usr/bin/env bash
# check.sh KIND SOURCE BUILD WORK: a fresh consumer project of KIND (installed | subdirectory, or either with _cpu_compiled,
# _cuda, _io, _mpi or _nccl) is configured, built and run. KIND tools: the programs are built, installed and run.
set -eu
export CMAKE_GENERATOR=Ninja  # what the tests themselves are built with; make may be missing
kind=$1 source=$2 build=$3 work=$4
rm -rf "$work"
mkdir -p "$work"
quick=(-DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O0 "-DCMAKE_CUDA_FLAGS_RELEASE=-O0 -Xptxas=-O0")  # it runs for a moment
if [[ $kind == tools ]]; then
  cmake -S "$source" -B "$work/build" -DLORAGA_BUILD_TOOLS=ON -DLORAGA_BUILD_TESTS=OFF -DCMAKE_UNITY_BUILD=ON \
    "${quick[@]}" > "$work/log" || { cat "$work/log"; exit 1; }
  cmake --build "$work/build" > "$work/log" || { cat "$work/log"; exit 1; }
  cmake --install "$work/build" --prefix "$work/prefix" > /dev/null
  for program in loraga_init loraga_adapter loraga_plan; do
    at=$work/prefix/bin/$program
    "$at" --version | grep -qx "$program (loraga) [0-9]*\.[0-9]*\.[0-9]*" || { echo "$program --version says:"; "$at" --version; exit 1; }
    "$at" --help | grep -qx SYNOPSIS || { echo "$program --help says:"; "$at" --help; exit 1; }
    rc=0
    "$at" --no-such-option > /dev/null 2> "$work/log" || rc=$?
    [[ $rc == 2 ]] || { echo "$program: a wrong option ends with $rc:"; cat "$work/log"; exit 1; }
  done
  cmake --install "$build" --prefix "$work/without" > /dev/null
  grep -q LORAGA_BUILD_TOOLS:BOOL=ON "$build/CMakeCache.txt" || [[ ! -e $work/without/bin ]] || { echo "programs are installed without LORAGA_BUILD_TOOLS"; exit 1; }
  exit
fi
if [[ $kind == installed* ]]; then
  cmake --install "$build" --prefix "$work/prefix" > /dev/null
  cmake -S "$source/tests/package/$kind" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" "${quick[@]}" > "$work/log" || { cat "$work/log"; exit 1; }
  refused() {  # COMPONENT MESSAGE OPTION...
    rm -rf "$work/missing"
    if cmake -S "$source/tests/package/installed" -B "$work/missing" -DCMAKE_PREFIX_PATH="$work/prefix" -DCOMPONENT=$1 "${@:3}" > "$work/log" 2>&1; then
      echo "component $1 was found"; exit 1
    fi
    tr '\n' ' ' < "$work/log" | tr -s ' ' | grep -q "$2" || { echo "$1 is not refused by name:"; cat "$work/log"; exit 1; }
  }
  if [[ $kind == installed ]]; then
    refused rocm "component 'rocm' is not part of this installation"
    refused cuda "component 'cuda' needs the language CUDA"
    refused nccl "component 'cuda' needs the language CUDA"
    refused mpi "component 'mpi': MPI 3 for C++ was not found (Debian: apt-get install libopenmpi-dev)" -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON
  fi
else
  cmake -S "$source/tests/package/$kind" -B "$work/build" -DLORAGA_SOURCE="$source" "${quick[@]}" > "$work/log" || { cat "$work/log"; exit 1; }
fi
cmake --build "$work/build" > "$work/log" || { cat "$work/log"; exit 1; }
if [[ $kind == installed || $kind == subdirectory ]]; then  # who does not ask for ranks gets none of them
  ninja -C "$work/build" -t deps > "$work/log"
  grep -q '/loraga/cpu\.hpp$' "$work/log" || { echo "what the consumer includes is not known"; exit 1; }
  if grep -E '/((mpi|nccl)\.h|loraga/distributed/.*)$' "$work/log"; then echo "a program that only wants the CPU includes these"; exit 1; fi
  if grep -E '^(MPI_|loraga_nccl)' "$work/build/CMakeCache.txt"; then echo "these were looked for, though nobody asked"; exit 1; fi
fi
if [[ $kind == installed_cpu_compiled ]] && command -v pkg-config > /dev/null; then  # its object, by pkg-config's words
  pc=$(dirname "$(find "$work/prefix" -name loraga-cpu_compiled.pc)")
  words=$(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs loraga-cpu_compiled)
  [[ $words == *-DLORAGA_CPU_COMPILED* ]] || { echo "pkg-config says: $words"; exit 1; }
  g++ "$(find "$work/build" -name consumer.cpp.o)" $words -o "$work/by_pkgconfig"
  "$work/by_pkgconfig"
fi
if [[ $kind == *_cuda || $kind == *_nccl ]]; then  # two runtimes in one program share no state
  runtimes=$(ninja -C "$work/build" -t commands consumer | tail -1 | grep -oE 'cudart(_static)?\b' | sort -u | tr '\n' ' ')
  [[ $runtimes == 'cudart_static ' ]] || { echo "CUDA runtimes on the link line: $runtimes"; exit 1; }
  [[ $(nm -C "$work/build/consumer" | grep -c ' [TtW] cudaGetLastError$') == 1 ]] || { echo "the program has not one CUDA runtime in it"; exit 1; }
  if readelf -d "$work/build/consumer" | grep NEEDED | grep cudart; then echo "the program needs this runtime, and holds one"; exit 1; fi
fi
cd "$work" && build/consumer
