#!/usr/bin/env bash
# record.sh BUILD: what only a GPU can show, into bench/results/cuda-tests.json. Called by `tests/run.sh --cuda --record`.
# PARTS="tests memcheck" does some of the parts: tests fault memcheck racecheck synccheck job. Those done before are kept.
set -uo pipefail
cd "$(dirname "$0")/../.."
unit=$1/tests/cuda/unit_cuda
result=bench/results/cuda-tests.json
work=build/cuda-record
mkdir -p "$work"
nvidia-smi -L > /dev/null 2>&1 || { echo "there is no GPU: nothing to record" >&2; exit 77; }
failed=0

# part NAME COMMAND...: runs it and stores how it ended
part() {
  local name=$1
  shift
  case " ${PARTS:-tests fault memcheck racecheck synccheck job} " in *" $name "*) ;; *) return 0 ;; esac
  echo "== $name"
  local began=$SECONDS code=0
  "$@" > "$work/$name.log" 2>&1 || code=$?
  tail -3 "$work/$name.log"
  [[ $code -eq 0 ]] || failed=1
  python3 tests/cuda/record.py "$result" "$name" "$code" $((SECONDS - began)) "$work"
}

part tests "$unit" -r junit -o "$work/tests.xml"
part fault "$unit" "[.fault]"
for tool in memcheck racecheck synccheck; do
  leaks=()
  # tests that make calls fail on purpose are right, so failed calls are no finding; what they leave would be
  [[ $tool == memcheck ]] && leaks=(--leak-check full --report-api-errors no)
  # the example's models repeat the same kernels many times over
  part $tool compute-sanitizer --tool $tool "${leaks[@]}" --error-exitcode 9 "$unit" "~[examples]~[.]"
done

# the same job on both devices: losses agree within the spread that seeds have
job() {
  bash examples/data/unpack.sh /usr/share/datasets/fashion-mnist build/fashion-mnist || return 1
  rm -rf "$work/cpu" "$work/cuda"
  cmake -S . -B build/release-cuda -G Ninja -DCMAKE_BUILD_TYPE=Release -DLORAGA_BUILD_TESTS=OFF \
    -DLORAGA_BUILD_EXAMPLES=ON -DLORAGA_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native &&
    cmake --build build/release-cuda && build/release-cuda/examples/cuda_loop "$work" &&
    for device in cpu cuda; do
      build/release-cuda/examples/vision --device $device --data build/fashion-mnist --cache build \
        --out "$work/$device" --rates examples/vision/best_rates.json --panels a \
        --methods full lora pissa lora-ga-64 || return 1
    done
}
part job job
cat "$result"
exit $failed
