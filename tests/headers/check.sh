#!/usr/bin/env bash
# check.sh INCLUDE_FOLDER COMPILER FLAG...
# Every header compiles alone; third-party headers appear in the wing only, JSON in io, a system's own in io/file_*.hpp and
# backend/pages.hpp; includes go down the floors and never in a circle; no header brings MPI or NCCL to those who did not
# ask. With the folder of a CUDA toolkit in LORAGA_TOOLKIT, its wing compiles alone too, and as CUDA with all of loraga.hpp.
# LORAGA_MPI_INCLUDE and LORAGA_NCCL_INCLUDE: where their headers are.
set -u
include=$1
shift
cd "$include" || exit 1
fail=0

floor_of() {
  case $1 in
    loraga/torch/*) echo 8 ;;
    loraga/cpu.hpp|loraga/cuda.cuh|loraga/loraga.hpp|loraga/distributed.hpp) echo 7 ;;
    loraga/backend/*|loraga/svd/eigen.hpp|loraga/svd/cusolver.cuh|loraga/distributed/mpi.hpp|loraga/distributed/nccl.cuh|loraga/ggml/*) echo 6 ;;
    loraga/initialise.hpp|loraga/distributed/*|loraga/io/*) echo 5 ;;
    loraga/adapter/*|loraga/optim/*|loraga/diagnostics/*) echo 4 ;;
    loraga/svd/*|loraga/gradient/*|loraga/init/*|loraga/start/*) echo 3 ;;
    loraga/linalg/*) echo 2 ;;
    loraga/concepts.hpp|loraga/scaling.hpp|loraga/rank_allocation.hpp) echo 1 ;;
    loraga/core/*|loraga/version.hpp) echo 0 ;;
    *) echo none ;;
  esac
}

mapfile -t headers < <(find loraga -name '*.hpp' -o -name '*.cuh' | sort)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
edges=$work/edges
for header in "${headers[@]}"; do
  floor=$(floor_of "$header")
  [[ $floor == none ]] && { echo "$header: on no floor"; fail=1; continue; }
  portable=
  [[ $floor -lt 6 || $header == loraga/loraga.hpp || $header == loraga/distributed.hpp ]] && portable=yes
  echo "$header $header" >> "$edges"
  while read -r used; do
    [[ -e $used ]] || { echo "$header: includes $used, which does not exist"; fail=1; continue; }
    echo "$header $used" >> "$edges"
    [[ $(floor_of "$used") -le $floor ]] || { echo "$header (floor $floor) includes $used from above"; fail=1; }
    [[ $portable && $(floor_of "$used") -ge 6 ]] && { echo "$header includes the wing: $used"; fail=1; }
    [[ $used == loraga/distributed/mpi.hpp || $used == loraga/distributed/nccl.cuh ]] &&
      { echo "$header includes $used, which users include where they want it"; fail=1; }
  done < <(sed -n 's|^#include <\(loraga/.*\)>|\1|p' "$header")
  if [[ $portable ]] && grep -nE '#include *[<"](Eigen|cuda|cublas|cusolver|thrust|cub|CLI|mpi|nccl)' "$header"; then
    echo "$header: a third-party header outside the wing"; fail=1
  fi
  if [[ $header != loraga/distributed/mpi.hpp && $header != loraga/distributed/nccl.cuh ]] &&
     grep -nE '#include *[<"](mpi|nccl)' "$header"; then
    echo "$header: MPI or NCCL outside of the header that is theirs"; fail=1
  fi
  if [[ $header != loraga/io/file_posix.hpp && $header != loraga/io/file_windows.hpp && $header != loraga/backend/pages.hpp ]] &&
     grep -nE '#include *<(sys/|unistd|fcntl|dirent|pthread|signal|io\.h|windows)' "$header"; then
    echo "$header: a system's own header, outside of the files that keep these apart"; fail=1
  fi
  if [[ $header != loraga/io/* && $header != loraga/ggml/* && $header != loraga/torch/* ]] && grep -nE '#include *[<"](nlohmann|loraga/io/)' "$header"; then
    echo "$header: includes io, or JSON outside io"; fail=1
  fi
done
tsort "$edges" > /dev/null || { echo "includes form a circle"; fail=1; }

# users_of HEAVY: the headers that include it, themselves or by way of others.
users_of() {
  local users more
  users=$(grep -lxF "#include <$1>" "${headers[@]}" | sort)
  until [[ $users == "${more:-}" ]]; do
    more=$users
    users=$(awk 'NR == FNR { user[$1]; next } $2 in user { print $1 }' - "$edges" <<< "$more" | sort -u)
  done
  echo "$users"
}

alone() { "$@" || { echo "does not compile alone: ${*: -1}"; exit 1; }; }
export -f alone
all_alone() { xargs -P "$(nproc)" -I{} bash -c 'alone "$@"' _ "$@" -fsyntax-only -x c++ {} || fail=1; }

# found NAME HEADER FOLDERS: sets `more` to the flags by which HEADER is found; false, and said aloud, where it is not.
found() {
  more=()
  local folder
  for folder in $3; do [[ $folder == /usr/include ]] || more+=(-isystem "$folder"); done
  echo "#include <$2>" | "${flags[@]}" "${more[@]}" -fsyntax-only -x c++ - 2> /dev/null && return 0
  echo "skipped, because there is no $1: the header that needs it does not compile alone here"
  return 1
}
flags=("$@")
printf '%s\n' "${headers[@]}" | grep 'hpp$' | grep -vx loraga/distributed/mpi.hpp | grep -Ev '^loraga/(ggml|torch)/' > "$work/left"  # tests/libtorch compiles torch/
# What includes a heavy header sees all of it, and has it precompiled here.
for heavy in nlohmann/json.hpp Eigen/Core; do
  echo "#include <$heavy>" > "$work/heavy.hpp"
  "$@" -x c++-header "$work/heavy.hpp" -o "$work/heavy.hpp.gch" || fail=1
  users_of $heavy | grep -xFf "$work/left" > "$work/now"
  all_alone "$@" -include "$work/heavy.hpp" < "$work/now"
  grep -vxFf "$work/now" "$work/left" > "$work/then" && mv "$work/then" "$work/left"
done
all_alone "$@" < "$work/left"
if found MPI mpi.h "${LORAGA_MPI_INCLUDE:-}"; then
  all_alone "$@" "${more[@]}" <<< loraga/distributed/mpi.hpp
fi

toolkit=${LORAGA_TOOLKIT:-}
if [[ -n $toolkit ]]; then
  flags=("$@" -isystem "$toolkit/include" -isystem "$toolkit/include/cccl" -DTHRUST_HOST_SYSTEM=THRUST_HOST_SYSTEM_CPP
    -DTHRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_CPP)
  printf '%s\n' "${headers[@]}" | grep 'cuh$' | grep -vx -e loraga/distributed/nccl.cuh -e loraga/torch/cuda.cuh > "$work/now"
  all_alone "${flags[@]}" < "$work/now"
  roofs=(loraga/cuda.cuh loraga/distributed.hpp)
  if found NCCL nccl.h "${LORAGA_NCCL_INCLUDE:-}"; then
    all_alone "${flags[@]}" "${more[@]}" <<< loraga/distributed/nccl.cuh
    roofs+=(loraga/distributed/nccl.cuh)
  fi
  printf '#include <%s>\n' "${roofs[@]}" | "$toolkit/bin/nvcc" -x cu -std=c++20 -arch=sm_80 -I. "${more[@]}" -c - -o /dev/null ||
    { echo "${roofs[*]}, with all that they include, do not compile as CUDA"; fail=1; }
fi
exit $fail
