#!/usr/bin/env bash
# fetch.sh WORK [--build]: FetchContent, on which CPM is built: an archive by its check sum, a repository by its commit, and
# a folder that is there already. Nothing leaves the machine.
source "$(dirname "$0")/tools.sh"
needs git

tar -C "$source" -czf "$work/loraga.tar.gz" --transform 's|^|loraga-0/|' "${package_files[@]}"
sum=$(sha256sum "$work/loraga.tar.gz" | cut -d' ' -f1)
consumer() { cmake -S "$here/fetch" -B "$work/build" "$@"; }
fetched() {  # WHERE OPTION...
  quiet consumer "${@:2}"
  grep -qx -- "-- fetched: $1" "$work/log" || { cat "$work/log"; fail "not fetched to $1"; }
}
wrong=${sum//[0-9]/0}
refused 'does not match expected value' consumer "-DLORAGA_FROM=URL;file://$work/loraga.tar.gz;URL_HASH;SHA256=$wrong"
fetched "$work/build/_deps/loraga-src" "-DLORAGA_FROM=URL;file://$work/loraga.tar.gz;URL_HASH;SHA256=$sum"
if [[ $build ]]; then
  quiet cmake --build "$work/build"
  "$work/build/consumer"
fi

git=(git -c user.name=test -c user.email=test@localhost -C "$work/repository")
mkdir "$work/repository"
(cd "$source" && cp -r "${package_files[@]}" "$work/repository")
quiet "${git[@]}" init -q -b main
quiet "${git[@]}" add .
quiet "${git[@]}" commit -q -m loraga
commit=$("${git[@]}" rev-parse HEAD)
echo 'message(FATAL_ERROR "a commit nobody asked for")' > "$work/repository/CMakeLists.txt"
quiet "${git[@]}" commit -q -am later
rm -rf "$work/build/_deps"
fetched "$work/build/_deps/loraga-src" "-DLORAGA_FROM=GIT_REPOSITORY;file://$work/repository;GIT_TAG;$commit"
fetched "$source" "-DFETCHCONTENT_SOURCE_DIR_LORAGA=$source"
