#!/usr/bin/env bash
# Benchmarks; each sets up what it needs and writes its record to bench/results.
#   bench/run.sh cpu       truncated SVDs and the streaming estimate against torch.svd_lowrank, bare products against MKL's
#                          and the machine's floor; torch of PyPI (MKL) and of Debian (OpenBLAS) (about half an hour);
#                          --threads N, --ranks R..., --no-products, --products-only narrow it down, --results FOLDER writes
#                          elsewhere; --against COMMIT, as the first of them, builds that commit too and lets it take turns:
#                          how much faster or slower are we now?
#   bench/run.sh adapters  forward, backward and optimiser step of LoRA, DoRA and AdaLoRA against torch autograd and PEFT's
#                          layers, and against memory's and arithmetic's floors (20 minutes); --threads N, --shapes OUTxIN...,
#                          --ranks R..., --methods M..., --result FILE narrow it down
#   bench/run.sh training  whole training steps of all-MiniLM-L6-v2 (LoRA and full) and of a language model against PEFT on the
#                          same batches: the same losses first, then tokens per second and peak memory (half an hour);
#                          --threads N..., --models M..., --rounds N, --result FILE narrow it down
#   bench/run.sh io        writing safetensors against cp, and what opening a file of 10 GB costs (a minute, 3 GB of disk)
#   bench/run.sh experts   files of 40,000 tensors against the Python package, and loraga_adapter on them (two minutes)
#   bench/run.sh evidence  every method of the paper on real text, the record behind docs/evidence.md (about 3 hours on two
#                          cores, restartable); --budget HOURS, --stages S..., --steps N, --report-only, --help and more
#   bench/run.sh llm       a quantised language model from several starts, steps in turn with PEFT, memory, and llama.cpp
#                          (about 90 minutes on two cores, restartable); --stages S..., --help
#   bench/run.sh ranks     what estimates of many ranks send, take and lose, against formulas and loraga_plan (five minutes)
#   bench/run.sh cuda      on a GPU: the tests, also under compute-sanitizer, and speed against torch and PEFT where they are
#                          installed (up to an hour; bench/cuda/prepare.sh and bench/cuda/run.sh do it on two machines and in
#                          ten minutes); what bench/cuda/run.sh takes
#   bench/run.sh cuda_passes  what a GPU's few, wide passes lose of the energy, with their operands rounded to TF32 and without,
#                          on made spectra and on gradients of a language model; on the host, no GPU (a quarter of an hour)
#   bench/run.sh compile   what including the headers costs, as ratios to including Eigen
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh
what=${1:-help}
[[ $# -gt 0 ]] && shift
results=$PWD/bench/results
mkdir -p $results
export PYTHONDONTWRITEBYTECODE=1

# build_bench TARGET...
build_bench() {
  build=build/bench
  cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DLORAGA_BUILD_TESTS=OFF -DLORAGA_BUILD_BENCH=ON \
    > $build.configure.log || { cat $build.configure.log; exit 1; }
  cmake --build $build --target "$@"
}

case $what in
  cpu)
    need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev dataset-fashion-mnist \
      python3 python3-venv python3-numpy python3-scipy python3-matplotlib python3-torch libopenblas0-pthread
    need_venv build/interop-venv tests/interop/requirements.txt
    unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE  # they would slow the peer down
    against=()
    if [[ ${1:-} == --against ]]; then
      commit=$(git rev-parse --short "$2^{commit}")
      rm -rf build/against && git worktree prune && git worktree add -q -f build/against "$commit"
      cmake -S build/against -B build/against/build -G Ninja -DCMAKE_BUILD_TYPE=Release -DLORAGA_BUILD_TESTS=OFF \
        -DLORAGA_BUILD_BENCH=ON > build/against.configure.log || { cat build/against.configure.log; exit 1; }
      cmake --build build/against/build --target svd_server
      # today's program on that commit's headers, for it may be older than the program
      g++ -std=c++20 -O3 -DNDEBUG -march=native -mtune=generic -w -Ibuild/against/include -isystem /usr/include/eigen3 \
        bench/cpu/products.cpp -o build/against/products -pthread
      against=(--before build/against/build/bench/svd_server --before-products build/against/products --before-name "$commit")
      shift 2
    fi
    build_bench svd_server svd_profile real_gradients products
    bash examples/data/unpack.sh /usr/share/datasets/fashion-mnist build/fashion-mnist
    $build/bench/real_gradients build/fashion-mnist build build/spectra/real
    /usr/bin/python3 bench/cpu/compare.py --server $build/bench/svd_server --products $build/bench/products \
      --profile $build/bench/svd_profile --work build/spectra \
      --peer pypi=build/interop-venv/bin/python --peer debian=/usr/bin/python3 --results $results "${against[@]}" "$@" ;;
  adapters)
    need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev python3 python3-venv python3-matplotlib
    need_venv build/interop-venv tests/interop/requirements.txt
    build_bench adapter_server
    record=$results/adapters.json
    before=
    for word in "$@"; do
      [[ $before != --result ]] || record=$word
      before=$word
    done
    build/interop-venv/bin/python bench/adapters/compare.py --server $build/bench/adapter_server --work build/bench-adapters \
      --result $record "$@"
    /usr/bin/python3 bench/adapters/picture.py $record ${record%.json}.png ;;
  training)
    need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libicu-dev python3 python3-pip python3-venv \
      python3-matplotlib unzip dict-foldoc
    need_venv build/interop-venv tests/interop/requirements.txt
    for set in minilm vader smollm2; do bash examples/data/fetch.sh $set build/$set; done
    bash examples/data/unpack_foldoc.sh /usr/share/dictd build/foldoc
    build_bench encoder_server step_server
    build/interop-venv/bin/python bench/training/run.py --encoder-server $build/bench/encoder_server \
      --step-server $build/bench/step_server --encoder build/minilm --snippets build/vader/movieReviewSnippets_GroundTruth.txt \
      --language-model build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --dictionary build/foldoc/foldoc.dict \
      --python build/interop-venv/bin/python --work build/bench-training --result $results/training.json "$@" ;;
  evidence)
    device=cpu release=release report=yes train=yes before=
    for word in "$@"; do
      [[ $before == --device ]] && device=$word
      case $word in
        --device=*) device=${word#--device=} ;;
        --records-only) report= ;;
        --check | --help | -h) train= report= ;;
        --report-only) train= ;;
      esac
      before=$word
    done
    need_packages python3
    [[ $device == cuda ]] && release=release-cuda
    [[ -z $train ]] || bash examples/run.sh sentiment --device $device --build-only
    if [[ $report ]]; then
      need_packages g++ cmake ninja-build libeigen3-dev python3-numpy python3-scipy python3-matplotlib python3-torch libopenblas0-pthread
      unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE  # they would slow the peer down
      build_bench svd_server
    fi
    exec /usr/bin/python3 bench/evidence/run.py --program build/$release/examples/sentiment --server build/bench/bench/svd_server \
      --results $results --document docs/evidence.md "$@" ;;
  io)
    need_packages g++ nlohmann-json3-dev python3
    mkdir -p build
    g++ -std=c++20 -O2 -Iinclude bench/io/files.cpp -o build/bench_files
    /usr/bin/python3 bench/io/measure.py --program build/bench_files --work build/bench-io --result $results/io.json "$@" ;;
  experts)
    need_packages g++ libeigen3-dev nlohmann-json3-dev libcli11-dev python3 python3-venv
    bash tests/interop/run.sh --light > build/interop-light.txt || { cat build/interop-light.txt; exit 1; }
    for program in tests/interop/bytes examples/tools/adapter_main; do
      g++ -std=c++20 -O2 -march=native -Iinclude -isystem /usr/include/eigen3 $program.cpp -o build/bench_$(basename $program) -pthread
    done
    build/interop-light/bin/python bench/io/many_modules.py --opener build/bench_bytes --adapter build/bench_adapter_main \
      --work build/bench-experts --result $results/experts.json "$@" ;;
  llm)
    need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libicu-dev python3 python3-venv python3-numpy python3-scipy \
      python3-matplotlib python3-torch libopenblas0-pthread
    unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE  # they would slow the peer down
    bash examples/run.sh llm --build-only
    build_bench svd_server step_server shapes spectra
    need_venv build/interop-venv tests/interop/requirements.txt
    need_venv build/llama-venv bench/language/llama-cpp.txt  # compiles llama.cpp: ten minutes on two cores
    /usr/bin/python3 bench/language/run.py --program build/release/examples/language --step-server $build/bench/step_server \
      --shapes $build/bench/shapes --spectra $build/bench/spectra --server $build/bench/svd_server \
      --python build/interop-venv/bin/python --llama-python build/llama-venv/bin/python \
      --model build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --data build/foldoc/foldoc.dict \
      --work build/bench-llm --results $results "$@" ;;
  ranks)
    need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libcli11-dev libopenmpi-dev openmpi-bin python3 python3-matplotlib
    build_bench ranks_estimate
    # what it measures is how fast its own kernels are, so they are compiled as the benchmark's
    cmake -S . -B build/tools-native -G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS=-march=native -mtune=generic" \
      -DLORAGA_BUILD_TESTS=OFF -DLORAGA_BUILD_TOOLS=ON > build/tools.configure.log || { cat build/tools.configure.log; exit 1; }
    cmake --build build/tools-native --target loraga_plan
    /usr/bin/python3 bench/ranks/run.py --estimate $build/bench/ranks_estimate --plan build/tools-native/examples/tools/loraga_plan \
      --work build/bench-ranks --results $results "$@" ;;
  cuda)
    ARCHITECTURES=native bash bench/cuda/prepare.sh build/gpu-kit
    code=0
    bash bench/cuda/run.sh --out build/gpu-record --kit build/gpu-kit --budget 3600 "$@" || code=$?
    [[ $code -eq 77 ]] || python3 bench/cuda/report.py build/gpu-record $results
    exit $code ;;
  cuda_passes)
    need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libicu-dev python3-pip unzip dict-foldoc
    build_bench cuda_passes spectra
    bash examples/data/fetch.sh smollm2 build/smollm2
    bash examples/data/unpack_foldoc.sh /usr/share/dictd build/foldoc
    $build/bench/spectra build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf build/foldoc/foldoc.dict 8 --matrices build/spectra/language 0 15 29
    worst=0
    losses() {  # NAME ARGUMENT...: 3 where a plan misses its gate
      local code=0 name=$1
      $build/bench/cuda_passes "${@:2}" > $results/$name.json.new || code=$?
      [[ $code -ne 0 && $code -ne 3 ]] || mv $results/$name.json.new $results/$name.json
      [[ $code -eq 0 ]] || worst=$code
    }
    losses cuda_passes_real build/spectra/language 8 32
    losses cuda_passes 4096 8 32 128
    exit $worst ;;
  compile)
    need_packages g++ libeigen3-dev python3
    /usr/bin/python3 bench/compile/measure.py --result $results/compile.json "$@" ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' bench/run.sh
    [[ $what == help || $what == --help ]] ;;
esac
