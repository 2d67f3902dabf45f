# Sourced by run.sh scripts: installs what is missing, Debian's packages or Python's, or says how.

# As many compilers at once as there are cores, and memory at 3 GB each.
if [[ -z ${CMAKE_BUILD_PARALLEL_LEVEL:-} && -r /proc/meminfo ]]; then
  CMAKE_BUILD_PARALLEL_LEVEL=$(awk -v cores="$(nproc)" '/^MemAvailable/ { n = int($2 / 3e6); print n < 1 ? 1 : n < cores ? n : cores }' /proc/meminfo)
  export CMAKE_BUILD_PARALLEL_LEVEL
fi

# need_packages NAME...
need_packages() {
  mkdir -p build
  local missing=() p
  for p in "$@"; do
    dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
  done
  [[ ${#missing[@]} -eq 0 ]] && return 0
  local line="apt-get install -y --no-install-recommends ${missing[*]}"
  local as=()
  if [[ $(id -u) -ne 0 ]]; then
    if sudo -n true 2>/dev/null; then as=(sudo)
    else
      echo "These Debian packages are missing and only root may install them. Run:" >&2
      echo "  sudo $line" >&2
      exit 1
    fi
  fi
  echo "installing: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! { flock 9 && "${as[@]}" apt-get update -q && "${as[@]}" $line; } > build/apt.log 2>&1 9> build/apt.lock; then
    tail -5 build/apt.log >&2
    echo "Installing failed (build/apt.log). By hand:  $line" >&2
    exit 1
  fi
}

# need_venv FOLDER REQUIREMENTS: a virtual environment with these Python packages; the list is kept in it.
need_venv() {
  local folder=$1 requirements=$2
  cmp -s "$requirements" "$folder/requirements.txt" && return 0
  echo "installing $(grep -c . "$requirements") Python packages into $folder"
  rm -rf "$folder"
  python3 -m venv "$folder"
  "$folder/bin/pip" install -q --disable-pip-version-check -r "$requirements" > "$folder.log" 2>&1 ||
    { tail -5 "$folder.log" >&2; exit 1; }
  cp "$requirements" "$folder/requirements.txt"
}

# need_libtorch: sets TORCH_ROOT to PyPI's torch, of which only the CPU's half is used: its headers, its two libraries, and
# the two small CUDA packages they link. (With --no-deps; all dependencies are gigabytes.) LIBTORCH_ROOT takes one that is there.
need_libtorch() {
  TORCH_ROOT=${LIBTORCH_ROOT:-}
  [[ -n $TORCH_ROOT ]] && return 0
  need_packages python3-venv
  PIP_NO_DEPS=1 need_venv build/libtorch cmake/libtorch_requirements.txt
  TORCH_ROOT=$(echo "$PWD"/build/libtorch/lib/python3*/site-packages/torch)
}
