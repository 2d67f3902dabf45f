#!/usr/bin/env bash
# The Python module: built as a wheel into a virtual environment of its own, its types checked, and its tests run against
# numpy, safetensors and gguf. --peft: against torch and PEFT as well, whose packages bring gigabytes and which are
# tests/interop's, and a short run of compare_with_peft.py. --native: compiled for this processor.
# INTEROP_VENV=FOLDER takes torch and PEFT from a virtual environment that is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh

peft= native=OFF
for word in "$@"; do
  case $word in
    --peft) peft=yes ;;
    --native) native=ON ;;
    --help) sed -n '2,5s/^# //p' examples/python/test.sh; exit 0 ;;
    *) echo "examples/python/test.sh: $word is unknown, expected --peft, --native or --help" >&2; exit 2 ;;
  esac
done
need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev python3 python3-dev python3-venv
venv=build/python-venv
need_venv $venv examples/python/tests/requirements.txt

# No build isolation: pip would fetch the newest compilers of wheels. The build folder is kept, so that a second run is quick.
echo "building the wheel (build/python-wheel.log)"
$venv/bin/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -v ./examples/python \
  -C build-dir="$PWD/build/python-module" -C cmake.define.LORAGA_NATIVE=$native > build/python-wheel.log 2>&1 ||
  { tail -20 build/python-wheel.log >&2; exit 1; }

export PYTHONDONTWRITEBYTECODE=1
$venv/bin/python -m mypy --strict --cache-dir build/python-mypy -p loraga
$venv/bin/python -m mypy --strict --cache-dir build/python-mypy examples/python/tests/typed_use.py
if [[ -n $peft ]]; then
  interop=${INTEROP_VENV:-build/interop-venv}
  [[ -n ${INTEROP_VENV:-} ]] || need_venv $interop tests/interop/requirements.txt
  packages=$(realpath "$interop"/lib/python3*/site-packages)
  PYTHONPATH=$packages $venv/bin/python -m pytest -q -c examples/python/pyproject.toml -rs examples/python/tests
  PYTHONPATH=$packages $venv/bin/python examples/python/compare_with_peft.py --seeds 1 --steps 80 \
    --picture build/python-losses.png
else
  $venv/bin/python -m pytest -q -c examples/python/pyproject.toml examples/python/tests
fi
