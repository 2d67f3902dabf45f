# Sourced by examples/run.sh: sets up LibTorch, builds and runs the example. `--debian` takes Debian's libtorch-dev instead of
# PyPI's torch; `--steps N`, `--out FOLDER`, `--build-only`.
need_packages g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev dataset-fashion-mnist
name=libtorch-example steps=100 out=out/libtorch only_build=
while [[ $# -gt 0 ]]; do
  case $1 in
    --debian) name=libtorch-example-debian ;;
    --steps) steps=$2; shift ;;
    --out) out=$2; shift ;;
    --build-only) only_build=yes ;;
    *) echo "examples/run.sh libtorch: $1 is unknown, expected --debian, --steps N, --out FOLDER or --build-only" >&2; exit 2 ;;
  esac
  shift
done
if [[ $name == *-debian ]]; then
  need_packages libtorch-dev
  TORCH_ROOT=/usr
else
  need_libtorch
fi
build=build/$name
cmake -S examples/libtorch -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DTORCH_ROOT="$TORCH_ROOT" > $build.configure.log ||
  { cat $build.configure.log; exit 1; }
echo "building (one to three minutes)"
cmake --build $build --target libtorch_example > $build.log || { tail -40 $build.log; exit 1; }
[[ -n $only_build ]] && exit
data=build/fashion-mnist
bash examples/data/unpack.sh /usr/share/datasets/fashion-mnist $data
# LibTorch's threads spin where they wait, and take the cores of others
OMP_WAIT_POLICY=passive $build/libtorch_example $data "$out" "$steps"
