#!/usr/bin/env bash
# Files against the Python packages that define them: safetensors and gguf, PEFT with small random models, and the
# language example's model and tokenizer.
# --light: without PEFT, in seconds; the rest needs torch, whose package brings gigabytes.
# --update: the files in reference/ become those made now; the unit tests read them.
# INTEROP_VENV=FOLDER takes the packages from a virtual environment that is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh

light= update=()
for word in "$@"; do
  case $word in
    --light) light=yes ;;
    --update) update=(--update) ;;
    --help) sed -n '2,6s/^# //p' tests/interop/run.sh; exit 0 ;;
    *) echo "tests/interop/run.sh: $word is unknown, expected --light, --update or --help" >&2; exit 2 ;;
  esac
done
need_packages python3 python3-venv g++ nlohmann-json3-dev
[[ -n $light ]] || need_packages libeigen3-dev libcli11-dev libicu-dev unzip

requirements=tests/interop/requirements.txt venv=${INTEROP_VENV:-build/interop-venv}
if [[ -n $light ]]; then
  requirements=tests/interop/requirements-light.txt venv=${INTEROP_VENV:-build/interop-light}
fi
[[ -n ${INTEROP_VENV:-} ]] || need_venv $venv $requirements

work=build/interop  # tables and files of the last run: light/ and full/
rm -rf $work/light $work/full && mkdir -p $work/light $work/full
compile() {  # unless nothing it is made of has changed
  local program=$work/$1
  if [[ ! -e $program || -n $(find include examples tests/interop -newer $program -name '*.[ch]pp' -print -quit) ]]; then
    g++ -std=c++20 -march=native -Wall -Wextra -Wno-maybe-uninitialized -Wno-uninitialized -Iinclude \
      -isystem /usr/include/eigen3 tests/interop/$1.cpp -o $program -pthread "${@:2}"
  fi
}
# Sets print in one order; nothing is written beside the sources.
export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
compile bytes -O1
compile gguf_reader -O3
failed=0
$venv/bin/python tests/interop/light.py --bytes $work/bytes --gguf-reader $work/gguf_reader --work $work/light --reference tests/interop/reference \
  "${update[@]}" || failed=1
if [[ -z $light ]]; then
  compile exchange -O2
  for tool in adapter init plan; do  # as loraga_adapter, loraga_init, loraga_plan
    g++ -std=c++20 -O2 -march=native -Iinclude -isystem /usr/include/eigen3 examples/tools/${tool}_*.cpp \
      -o $work/loraga_$tool -pthread
  done
  bash tests/docs/extract.sh $work/full/page docs/first-adapter.md
  g++ -std=c++20 -O1 -march=native -Iinclude -isystem /usr/include/eigen3 $work/full/page/first_adapter.cpp -o $work/first -pthread
  bash tests/docs/first_adapter.sh $PWD/$work/first $work/full/first $(realpath $venv)/bin/python $PWD/$work/full/page/first_adapter.py || failed=1
  compile decoder -O2 -licuuc
  bash examples/data/fetch.sh smollm2 build/smollm2
  $venv/bin/python tests/interop/language.py --decoder $work/decoder --model build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
    --work $work/full/language || failed=1
  $venv/bin/python tests/interop/full.py --exchange $work/exchange --bytes $work/bytes --programs $work --work $work/full \
    --reference tests/interop/reference "${update[@]}" || failed=1
fi
exit $failed
