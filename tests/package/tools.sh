# Sourced by the tests of single routes, which are called as `ROUTE.sh WORK [--build]`: in the folder WORK, which is made
# afresh. Without --build they configure and look; with it they compile and run consumers as well.
set -euo pipefail
export CMAKE_GENERATOR=Ninja PYTHONDONTWRITEBYTECODE=1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(cd "$here/../.." && pwd)
work=$1 build=${2:-}
[[ -z $build || $build == --build ]] || { echo "expected --build, not '$build'" >&2; exit 2; }
rm -rf "$work" && mkdir -p "$work"
work=$(cd "$work" && pwd)

fail() { echo "$*"; exit 1; }

# quiet COMMAND...: says something only when it fails.
quiet() { "$@" > "$work/log" 2>&1 || { cat "$work/log"; fail "failed: $*"; }; }

# refused WORDS COMMAND...: the command must fail, and say so.
refused() {
  if "${@:2}" > "$work/log" 2>&1; then fail "this was not refused: ${*:2}"; fi
  tr '\n' ' ' < "$work/log" | tr -s ' ' | grep -F -- "$1" > /dev/null || { cat "$work/log"; fail "it does not say '$1': ${*:2}"; }
}

# needs TOOL...: ends the test as skipped where one is missing.
needs() {
  local tool
  for tool in "$@"; do command -v "$tool" > /dev/null || { echo "skipped: there is no $tool"; exit 77; }; done
}

# What a release's archive holds and its users need.
package_files=(CMakeLists.txt LICENSE cmake include)
