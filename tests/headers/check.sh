#!/usr/bin/env bash
# check.sh INCLUDE_FOLDER COMPILER FLAG...
# Every header compiles alone; third-party headers appear in the wing only, JSON in io; includes go down the floors and never in a
# circle. With the folder of a CUDA toolkit in LORAGA_TOOLKIT, its wing compiles alone too, and as CUDA with all of
# loraga.hpp.
set -u
include=$1
shift
cd "$include" || exit 1
fail=0

floor_of() {
  case $1 in
    loraga/cpu.hpp|loraga/cuda.cuh|loraga/loraga.hpp) echo 7 ;;
    loraga/backend/*|loraga/svd/eigen.hpp|loraga/svd/cusolver.cuh) echo 6 ;;
    loraga/initialise.hpp|loraga/io/*) echo 5 ;;
    loraga/adapter/*|loraga/optim/*|loraga/diagnostics/*) echo 4 ;;
    loraga/svd/*|loraga/gradient/*|loraga/init/*|loraga/start/*) echo 3 ;;
    loraga/linalg/*) echo 2 ;;
    loraga/concepts.hpp|loraga/scaling.hpp|loraga/rank_allocation.hpp) echo 1 ;;
    loraga/core/*|loraga/version.hpp) echo 0 ;;
    *) echo none ;;
  esac
}

mapfile -t headers < <(find loraga -name '*.hpp' -o -name '*.cuh' | sort)
edges=$(mktemp)
trap 'rm -f "$edges"' EXIT
for header in "${headers[@]}"; do
  floor=$(floor_of "$header")
  [[ $floor == none ]] && { echo "$header: on no floor"; fail=1; continue; }
  echo "$header $header" >> "$edges"
  while read -r used; do
    [[ -e $used ]] || { echo "$header: includes $used, which does not exist"; fail=1; continue; }
    echo "$header $used" >> "$edges"
    [[ $(floor_of "$used") -le $floor ]] || { echo "$header (floor $floor) includes $used from above"; fail=1; }
    [[ $floor -lt 6 && $(floor_of "$used") -ge 6 ]] && { echo "$header includes the wing: $used"; fail=1; }
  done < <(sed -n 's|^#include <\(loraga/.*\)>|\1|p' "$header")
  if [[ $floor -lt 6 || $header == loraga/loraga.hpp ]] &&
     grep -nE '#include *[<"](Eigen|cuda|cublas|cusolver|thrust|cub|CLI)' "$header"; then
    echo "$header: a third-party header outside the wing"; fail=1
  fi
  if [[ $header != loraga/io/* ]] && grep -nE '#include *[<"](nlohmann|loraga/io/)' "$header"; then
    echo "$header: includes io, or JSON outside io"; fail=1
  fi
done
tsort "$edges" > /dev/null || { echo "includes form a circle"; fail=1; }

alone() { "$@" || { echo "does not compile alone: ${*: -1}"; exit 1; }; }
export -f alone
all_alone() { xargs -P "$(nproc)" -I{} bash -c 'alone "$@"' _ "$@" -fsyntax-only -x c++ {} || fail=1; }
printf '%s\n' "${headers[@]}" | grep 'hpp$' > "$edges"
all_alone "$@" < "$edges"

toolkit=${LORAGA_TOOLKIT:-}
if [[ -n $toolkit ]]; then
  printf '%s\n' "${headers[@]}" | grep 'cuh$' > "$edges"
  all_alone "$@" -isystem "$toolkit/include" -isystem "$toolkit/include/cccl" -DTHRUST_HOST_SYSTEM=THRUST_HOST_SYSTEM_CPP \
    -DTHRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_CPP < "$edges"
  echo "#include <loraga/cuda.cuh>" | "$toolkit/bin/nvcc" -x cu -std=c++20 -arch=sm_80 -I. -c - -o /dev/null ||
    { echo "loraga/cuda.cuh, and all that it includes, does not compile as CUDA"; fail=1; }
fi
exit $fail
