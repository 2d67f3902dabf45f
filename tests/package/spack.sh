#!/usr/bin/env bash
# spack.sh WORK: the package file, executed with a stand-in for Spack's own module, and its options taken by CMake.
source "$(dirname "$0")/tools.sh"
needs python3
[[ $(cat "$source/cmake/spack/repo.yaml") == $'repo:\n  namespace: loraga' ]] || fail "repo.yaml is not right"
args=$(python3 "$here/spack/run_package.py" "$source/cmake/spack/packages/loraga/package.py")
[[ $args == *-DLORAGA_BUILD_TESTS:BOOL=OFF* && $args == *-DLORAGA_BUILD_TOOLS:BOOL=ON* ]] || fail "cmake_args are $args"
for option in $(grep -oE 'LORAGA_[A-Z_]+' <<< "$args"); do  # CMake takes unknown ones without a word
  grep -qE "^option\($option " "$source/CMakeLists.txt" || fail "there is no option $option"
done
