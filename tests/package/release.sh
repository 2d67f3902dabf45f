#!/usr/bin/env bash
# release.sh WORK: cmake/release.sh in a repository of its own, under a made-up version: what it refuses, that the same commit
# gives the same bytes, and that vcpkg's port (by stand-ins), Conan's data, Spack's file and FetchContent take the archive.
source "$(dirname "$0")/tools.sh"
version=9.8.7
tree=$work/tree
mkdir "$tree"
(cd "$source" && git ls-files -co --exclude-standard -z |
  while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done | tar --null -cf - -T -) | tar -C "$tree" -xf -
cd "$tree"
export GIT_AUTHOR_NAME=test GIT_AUTHOR_EMAIL=test@localhost GIT_COMMITTER_NAME=test GIT_COMMITTER_EMAIL=test@localhost
# The site has tests of its own, and its tools are no part of this one.
printf '#!/bin/sh\nmkdir -p "$2" && echo "<p>site</p>" > "$2/index.html"\n' > docs/site.sh
commit() { quiet git add -A; quiet git commit -q -m "$1"; }
release() { bash cmake/release.sh "$@"; }

quiet git init -q -b main
commit one
refused "the version is '9.8'" release 9.8
refused "expected 9.8.7" release $version
for part in MAJOR:9 MINOR:8 PATCH:7; do sed -i "s/\(LORAGA_VERSION_${part%:*}\) .*/\1 ${part#*:}/" include/loraga/version.hpp; done
refused 'the tree is not clean' release $version
commit version
refused 'vcpkg.json says another version' release $version
sed -i "s/\"version-semver\": .*/\"version-semver\": \"$version\",/" cmake/vcpkg/ports/loraga/vcpkg.json
commit vcpkg
refused "expected '## 9.8.7'" release $version
sed -i '0,/^## .*/s//## 9.8.7 (not released)/' CHANGELOG.md
commit heading
refused "CHANGELOG.md says '## 9.8.7 (not released)'" release $version
sed -i 's/^## 9.8.7.*/## 9.8.7 (1 January 2030)/' CHANGELOG.md
commit ready
[[ -z $(git tag) ]] || fail "a refused release left a tag"

quiet release $version
[[ $(git rev-parse "v$version^{commit}") == "$(git rev-parse HEAD)" ]] || fail "the tag is not this commit's"
out=$tree/build/release-$version
cp "$out/SHA256SUMS" "$work/sums"
[[ $(wc -l < "$work/sums") == 3 ]] || fail "expected an archive, the single header and the site: $(cat "$work/sums")"
sleep 1  # archives that hold the time of their making would differ
touch include/loraga/version.hpp
quiet release $version
cmp "$work/sums" "$out/SHA256SUMS" || fail "the same commit gave other bytes"
(cd "$out" && quiet sha256sum -c SHA256SUMS)
echo >> README.md
commit later
refused "the tag v9.8.7 is of another commit" release $version

sum=$(sha256sum "$out/loraga-$version.tar.gz" | cut -d' ' -f1)
tar -tzf "$out/loraga-$version-single.tar.gz" | grep -x "loraga-$version-single/loraga.hpp" > /dev/null || fail "the single header is not in its archive"
quiet cmake -S "$here/fetch" -B "$work/fetch" "-DLORAGA_FROM=URL;file://$out/loraga-$version.tar.gz;URL_HASH;SHA256=$sum"
grep -q "LORAGA_VERSION_MINOR 8" "$work/fetch/_deps/loraga-src/include/loraga/version.hpp" || fail "another version was fetched"
quiet cmake "-DPORT_FOLDER=$out/vcpkg/ports/loraga" "-DFEATURES=core;cpu;io" "-DCURRENT_PACKAGES_DIR=$work/vcpkg" -P "$here/vcpkg/run_port.cmake"
[[ -d $work/vcpkg-buildtrees/src/loraga-$version ]] || fail "the released port did not take the archive"
quiet python3 "$here/spack/run_package.py" "$out/spack/packages/loraga/package.py"
grep -q "version(\"$version\", sha256=\"$sum\"" "$out/spack/packages/loraga/package.py" || fail "Spack's file lacks the check sum"
grep -q "sha256: \"$sum\"" "$out/conan/conandata.yml" || fail "Conan's data lack the check sum"
