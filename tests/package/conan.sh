#!/usr/bin/env bash
# conan.sh WORK VENV: `conan create` of the recipe, its test package included, for the defaults and for each component alone.
# Debian's Eigen and JSON stand in for ConanCenter's. VENV: where conan/requirements.txt is installed.
venv=$(cd "$2" && pwd)
set -- "$1"
source "$(dirname "$0")/tools.sh"
export CONAN_HOME=$work/home
conan=$venv/bin/conan

mkdir "$work/tree"  # a copy: the recipe packs the tree that it lies in, and leaves nothing in ours
(cd "$source" && cp -r "${package_files[@]}" "$work/tree")
quiet "$conan" profile detect
for name in eigen nlohmann_json; do quiet "$conan" create "$here/conan" --name $name --no-remote; done
create() {  # OPTION...
  quiet "$conan" create "$work/tree/cmake/conan" --no-remote -s compiler.cppstd=20 \
    -c tools.cmake.cmaketoolchain:generator=Ninja -c "tools.cmake.cmake_layout:test_folder=$work/test" "$@"
  (grep -oE 'RUN: .*/(cpu|io|cpu_compiled)$' "$work/log" || true) | sed 's|.*/||' | sort | paste -sd' '
}
ran() { [[ $1 == "$2" ]] || { cat "$work/log"; fail "the test package ran '$1', not '$2'"; }; }
ran "$(create)" 'cpu io'
ran "$(create -o 'loraga/*:cpu=False')" 'io'
ran "$(create -o 'loraga/*:cpu=False' -o 'loraga/*:io=False' -o 'loraga/*:compiled=True')" 'cpu_compiled'
# As a release's recipe does it: from an archive with a check sum, no tree around.
mv "$work/tree/cmake/conan" "$work/recipe"
tar -C "$work" -czf "$work/loraga.tar.gz" tree
data() { printf 'sources:\n  "1.2.3":\n    url: "file://%s"\n    sha256: "%s"\n' "$work/loraga.tar.gz" "$1" > "$work/recipe/conandata.yml"; }
from_archive=("$conan" create "$work/recipe" --version 1.2.3 --no-remote -s compiler.cppstd=20 -o 'loraga/*:cpu=False'
  -o 'loraga/*:io=False' -c tools.cmake.cmaketoolchain:generator=Ninja --test-folder=)
sum=$(sha256sum "$work/loraga.tar.gz" | cut -d' ' -f1)
data "${sum//[0-9]/0}"
refused 'sha256 hash failed' "${from_archive[@]}"
data "$sum"
quiet "${from_archive[@]}"
mv "$work/recipe" "$work/tree/cmake/conan" && rm "$work/tree/cmake/conan/conandata.yml"
refused 'is lower than the required C++ standard' "$conan" create "$work/tree/cmake/conan" --no-remote -s compiler.cppstd=17
