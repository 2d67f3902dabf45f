#!/usr/bin/env bash
# pkgconfig.sh WORK [--build]: the installed .pc files and CMake package, laid out as Fedora does (lib64) and Debian (lib and
# the machine's name), and moved after installing.
source "$(dirname "$0")/tools.sh"
needs pkg-config
pkg-config --exists eigen3 nlohmann_json || { echo "skipped: pkg-config knows no Eigen or JSON here"; exit 77; }
version=$(sed -n 's/^#define LORAGA_VERSION_[A-Z]* //p' "$source/include/loraga/version.hpp" | paste -sd.)

quiet cmake -S "$source" -B "$work/own" -DLORAGA_BUILD_TESTS=OFF
multiarch=$(g++ -print-multiarch)  # empty on Fedora
for libdir in ${multiarch:+lib/$multiarch} lib64; do
  quiet cmake "$work/own" -DCMAKE_INSTALL_LIBDIR=$libdir
  rm -rf "$work/moved"
  quiet cmake --install "$work/own" --prefix "$work/prefix"
  mv "$work/prefix" "$work/moved"
  export PKG_CONFIG_PATH=$work/moved/$libdir/pkgconfig
  pkg-config --validate loraga-headers loraga loraga-io || fail "$libdir: not valid"
  [[ $(pkg-config --modversion loraga) == "$version" ]] || fail "the version is $(pkg-config --modversion loraga)"
  [[ " $(pkg-config --libs loraga) " == *" -pthread "* ]] || fail "threads are not linked"
  # The header is found in the moved place, by what pkg-config prints alone.
  echo '#include <loraga/version.hpp>' | g++ $(pkg-config --cflags loraga-headers) -M -x c++ - | grep -F "$work/moved" > /dev/null ||
    fail "$libdir: the headers are not found where they were moved"
  rm -rf "$work/consumer"
  where=(-DCMAKE_PREFIX_PATH="$work/moved")
  if [[ $libdir == lib64 && -e /etc/debian_version ]]; then  # where CMake does not look into lib64
    where=(-Dloraga_DIR:PATH="$work/moved/lib64/cmake/loraga")
  fi
  quiet cmake -S "$here/installed" -B "$work/consumer" "${where[@]}"
  grep -q "^loraga_DIR:PATH=$work/moved/$libdir/cmake/loraga$" "$work/consumer/CMakeCache.txt" ||
    fail "$libdir: find_package found $(grep ^loraga_DIR "$work/consumer/CMakeCache.txt")"
done
if [[ $build ]]; then
  quiet g++ -std=c++20 -O1 "$here/consumer.cpp" $(pkg-config --cflags --libs loraga) -o "$work/cpu"
  quiet g++ -std=c++20 -O1 "$here/consumer_io.cpp" $(pkg-config --cflags --libs loraga-io) -o "$work/io"
  cd "$work" && ./cpu && ./io
fi
