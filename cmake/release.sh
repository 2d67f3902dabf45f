#!/usr/bin/env bash
# release.sh VERSION [--url BASE]: makes the release VERSION of the commit that is checked out, into build/release-VERSION: its
# source archive, the library as one header, the documentation site, the recipes of vcpkg, Conan and Spack with the archive's
# check sums, and SHA256SUMS. Then it tags the commit vVERSION, if it is not yet. Nothing is sent anywhere.
# BASE: the folder on the network that the archive will be downloaded from; by default that local folder.
set -euo pipefail
cd "$(dirname "$0")/.."
refuse() { echo "cmake/release.sh: $1" >&2; exit 1; }

[[ $# == 1 || ($# == 3 && $2 == --url) ]] || refuse "expected VERSION [--url BASE], not '$*'"
version=$1 tag=v$1
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || refuse "the version is '$version', expected three numbers as in 1.2.3"
out=$PWD/build/release-$version
url=${3:-file://$out}

[[ -z $(git status --porcelain) ]] || refuse "the tree is not clean: commit or remove what 'git status' lists"
commit=$(git rev-parse HEAD)
if tagged=$(git rev-parse -q --verify "$tag^{commit}"); then
  [[ $tagged == "$commit" ]] || refuse "the tag $tag is of another commit, ${tagged:0:12}"
fi
stated=$(sed -n 's/^#define LORAGA_VERSION_[A-Z]* //p' include/loraga/version.hpp | paste -sd.)
[[ $stated == "$version" ]] || refuse "include/loraga/version.hpp says $stated, expected $version"
grep -qF "\"version-semver\": \"$version\"" cmake/vcpkg/ports/loraga/vcpkg.json ||
  refuse "cmake/vcpkg/ports/loraga/vcpkg.json says another version than $version"
heading=$(grep -m1 '^## ' CHANGELOG.md)
[[ $heading =~ ^'## '([0-9.]+)( |$) && (${BASH_REMATCH[1]} == "$version" || ${BASH_REMATCH[1]}.0 == "$version") ]] ||
  refuse "the first heading of CHANGELOG.md is '$heading', expected '## $version'"
[[ $heading != *'not released'* ]] || refuse "CHANGELOG.md says '$heading'"

rm -rf "$out" && mkdir -p "$out"
name=loraga-$version
time=$(git show -s --format=%ct "$commit")
packed() { tar -C "$1" --sort=name --owner=0 --group=0 --numeric-owner --mode=u+rwX,go=rX --mtime="@$time" -cf - "$2" | gzip -9n; }
git archive --format=tar --prefix="$name/" "$commit" | gzip -9n > "$out/$name.tar.gz"

PYTHONDONTWRITEBYTECODE=1 python3 cmake/amalgamate.py "$out/$name-single"
packed "$out" "$name-single" > "$out/$name-single.tar.gz"
if [[ -e docs/site.sh ]]; then
  bash docs/site.sh --out "$out/$name-site"
  packed "$out" "$name-site" > "$out/$name-site.tar.gz"
fi

sum() { "sha$1sum" "$out/$name.tar.gz" | cut -d' ' -f1; }
cp -r cmake/vcpkg cmake/conan cmake/spack "$out"
sed -i "s|^set(archive_url \"\")|set(archive_url \"$url/$name.tar.gz\")|; s|^set(archive_sha512 \"\")|set(archive_sha512 \"$(sum 512)\")|" \
  "$out/vcpkg/ports/loraga/portfile.cmake"
printf 'sources:\n  "%s":\n    url: "%s"\n    sha256: "%s"\n' "$version" "$url/$name.tar.gz" "$(sum 256)" > "$out/conan/conandata.yml"
# Conan finds no tree around this copy, which would tell it the version.
sed -i "s|^    name = \"loraga\"|&\n    version = \"$version\"|" "$out/conan/conanfile.py"
sed -i "s|^    version(\"main\".*|    version(\"$version\", sha256=\"$(sum 256)\", url=\"$url/$name.tar.gz\")|; /^    # The repository that/d; /^    git = /d" \
  "$out/spack/packages/loraga/package.py"
[[ $(grep -rlF "$url/$name.tar.gz" "$out/vcpkg" "$out/conan" "$out/spack" | wc -l) == 3 ]] || refuse "not every recipe took the archive's address"
(cd "$out" && sha256sum -- *.tar.gz > SHA256SUMS)

[[ -n $tagged ]] || git tag -a -m "loraga $version" "$tag" "$commit"
echo "build/release-$version, tagged $tag (nothing was pushed):"
cat "$out/SHA256SUMS"
