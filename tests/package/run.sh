#!/usr/bin/env bash
# run.sh [ROUTE...]: every way of getting the library, with a consumer that is compiled and run: folder fetch pkgconfig vcpkg spack
# single release platforms subdirectory conan. Some minutes; tests/run.sh has the quick part. Where wine is, Windows programs run.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh
need_packages g++ clang cmake ninja-build git pkg-config python3-venv libeigen3-dev nlohmann-json3-dev libc++-dev libc++abi-dev \
  g++-mingw-w64-x86-64-posix
routes=("$@")
[[ $# -gt 0 ]] || routes=(folder fetch pkgconfig vcpkg spack single release platforms subdirectory conan)

passed=0 failed=()
for route in "${routes[@]}"; do
  begin=$SECONDS work=$PWD/build/package/$route
  mkdir -p build/package
  case $route in
    conan)
      need_venv build/conan-venv tests/package/conan/requirements.txt
      command=(bash tests/package/conan.sh "$work" build/conan-venv) ;;
    folder | release | spack | platforms) command=(bash "tests/package/$route.sh" "$work") ;;
    fetch | pkgconfig | vcpkg | single) command=(bash "tests/package/$route.sh" "$work" --build) ;;
    subdirectory) command=(bash tests/package/check.sh subdirectory_cpu_compiled "$PWD" "$PWD" "$work") ;;
    *) echo "tests/package/run.sh: there is no route '$route'" >&2; exit 2 ;;
  esac
  if "${command[@]}"; then passed=$((passed + 1)); else failed+=("$route"); fi
  echo "$route: $((SECONDS - begin)) s"
done
[[ ${#failed[@]} -eq 0 ]] || echo "failed: ${failed[*]}"
echo "$passed passed, ${#failed[@]} failed"
[[ ${#failed[@]} -eq 0 ]]
