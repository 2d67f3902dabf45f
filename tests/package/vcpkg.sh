#!/usr/bin/env bash
# vcpkg.sh WORK [--build]: the overlay port, run with stand-ins for vcpkg's functions, for consumers by CMake and pkg-config.
source "$(dirname "$0")/tools.sh"
needs python3 pkg-config ninja
pkg-config --exists eigen3 || { echo "skipped: pkg-config knows no Eigen here"; exit 77; }
version=$(sed -n 's/^#define LORAGA_VERSION_[A-Z]* //p' "$source/include/loraga/version.hpp" | paste -sd.)
port=$source/cmake/vcpkg/ports/loraga

python3 "$here/vcpkg/check_manifest.py" "$port/vcpkg.json" "$version" || fail "vcpkg.json is not right"
run_port() {  # PORT_FOLDER FEATURES PACKAGE
  quiet cmake "-DPORT_FOLDER=$1" "-DFEATURES=$2" "-DCURRENT_PACKAGES_DIR=$3" -P "$here/vcpkg/run_port.cmake"
}
run_port "$port" 'core;cpu;io' "$work/package"
mv "$work/package" "$work/installed"  # as vcpkg does
cmp "$source/LICENSE" "$work/installed/share/loraga/copyright"
[[ ! -e $work/installed/lib ]] || fail "a package of headers has a lib folder"
export PKG_CONFIG_PATH=$work/installed/share/pkgconfig
pkg-config --cflags loraga | grep -F "$work/installed/" > /dev/null || fail "pkg-config does not find the headers"
quiet cmake -S "$here/installed" -B "$work/consumer" "-DCMAKE_PREFIX_PATH=$work/installed"
grep -q "^loraga_DIR:PATH=$work/installed/share/loraga$" "$work/consumer/CMakeCache.txt" || fail "another loraga was found"
ninja -C "$work/consumer" -t commands consumer | grep -F "$work/installed/" > /dev/null || fail "the consumer has not this include path"
if [[ $build ]]; then
  quiet cmake --build "$work/consumer"
  "$work/consumer/consumer"
  run_port "$port" 'core;compiled' "$work/compiled"  # in both build types
  quiet cmake -S "$here/installed_cpu_compiled" -B "$work/consumer_compiled" -DCMAKE_BUILD_TYPE=Release \
    "-DCMAKE_PREFIX_PATH=$work/compiled"
  quiet cmake --build "$work/consumer_compiled"
  "$work/consumer_compiled/consumer"
fi
