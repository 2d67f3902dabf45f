#!/usr/bin/env bash
# Copies the headers of installed Debian packages that the tests need into .deps, which run.sh uses where it is found:
# for machines without a network, to which the working tree is copied.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh
need_packages libeigen3-dev catch2 nlohmann-json3-dev libcli11-dev
rm -rf .deps .deps.new && mkdir .deps.new
dpkg -L libeigen3-dev catch2 nlohmann-json3-dev libcli11-dev |
  grep -E '^/usr/(include|lib/.*cmake|share/(cmake|eigen3))/' |
  while read -r path; do [[ -d $path ]] || echo "${path#/}"; done > .deps.new/list
tar -C / -cf - -T .deps.new/list | tar -C .deps.new -xf -
mv .deps.new .deps
du -sh .deps
