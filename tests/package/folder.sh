#!/usr/bin/env bash
# folder.sh FOLDER: the library as a folder on the include path. The line to compile with that examples/plain_loop.cpp states
# works as it stands, and the program learns, writes the adapter it promises, and names no Eigen.
# CPATH says where headers are that lie elsewhere.
set -euo pipefail
sources=$(realpath "$(dirname "$0")/../..") folder=$1
export CPATH=${CPATH:-/usr/include/eigen3}
rm -rf "$folder" && mkdir -p "$folder" && cd "$folder"
ln -s "$sources/include" include
ln -s "$sources/examples" examples
if grep -n 'Eigen' examples/plain_loop.cpp; then echo "plain_loop.cpp speaks of Eigen"; exit 1; fi
line=$(sed -n 's|^// \(g++ .*\)|\1|p' examples/plain_loop.cpp)
[[ $line == 'g++ '*' -o plain '* ]] || { echo "plain_loop.cpp states no line to compile with"; exit 1; }
bash -c "$line"
./plain my-adapter | tee table.txt
[[ $(grep -cE '^ *[0-9]+ +[0-9.]+ +[0-9.]+$' table.txt) -eq 5 ]] || { echo "not the table that was expected"; exit 1; }
# Four factors of rank 8 in float, behind a header.
grep -q '"r": 8' my-adapter/adapter_config.json
size=$(stat -c %s my-adapter/adapter_model.safetensors) numbers=$((8 * (64 + 128 + 128 + 32) * 4))
((size > numbers && size < numbers + 2000)) || { echo "adapter_model.safetensors has $size bytes"; exit 1; }
