#!/usr/bin/env bash
# platforms.sh WORK: how ready the host headers are for macOS (clang with libc++, each header alone) and Windows (MinGW, all of
# them behind <windows.h>), with a program that writes, replaces and maps files: run here, and by wine where that is.
source "$(dirname "$0")/tools.sh"
eigen=${LORAGA_EIGEN:-/usr/include/eigen3}
cd "$source/include"
# What needs LibTorch, ggml or MPI cannot be had for these systems here.
headers=$(find loraga -name '*.hpp' ! -path 'loraga/torch/*' ! -path 'loraga/ggml/*' ! -path loraga/distributed/mpi.hpp | sort)

libcxx=(clang++ -stdlib=libc++ -std=c++20 -Wall -Wextra -Werror -Wno-pragma-once-outside-header -I. -isystem "$eigen")
alone() { "$@" || { echo "does not compile alone with libc++: ${*: -1}"; exit 1; }; }
export -f alone
xargs -P "$(nproc)" -I{} bash -c 'alone "$@"' _ "${libcxx[@]}" -fsyntax-only -x c++ {} <<< "$headers"
quiet "${libcxx[@]}" -O1 "$here/platforms/files.cpp" -pthread -o "$work/files"
(cd "$work" && ./files)
# What Linux alone has is guarded: without its name the rest of POSIX is left, as on macOS. (libc++ itself asks for it.)
for header in loraga/io/file.hpp loraga/backend/pages.hpp; do
  quiet clang++ -std=c++20 -Wall -Wextra -Werror -Wno-pragma-once-outside-header -U__linux__ -I. -fsyntax-only -x c++ $header
done

mkdir "$work/include" && ln -s /usr/include/nlohmann "$work/include/nlohmann"  # the rest of /usr/include is another system's
mingw=(x86_64-w64-mingw32-g++-posix -std=c++20 -Wall -Wextra -Werror -I. -isystem "$eigen" -isystem "$work/include")
{
  echo '#include <windows.h>'
  # shellcheck disable=SC2086
  printf '#include <%s>\n' $headers
} > "$work/all.cpp"
quiet "${mingw[@]}" -DNOMINMAX -fsyntax-only "$work/all.cpp"
quiet "${mingw[@]}" -O1 -static "$here/platforms/files.cpp" -o "$work/files.exe"
wine=$(command -v wine64 || command -v wine || ls /usr/lib/wine/wine64 2> /dev/null || true)
if [[ $wine ]]; then
  export WINEPREFIX=$work/wine WINEDEBUG=-all
  cd "$work" && "$wine" ./files.exe
else
  echo "there is no wine: files.exe was linked, not run"
fi
