"""kit.py FOLDER [FILE=PATH ...]: writes kit.json, which says what a kit was made of, and packs what is given."""
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import store

ROOT = pathlib.Path(__file__).resolve().parents[2]


def sources(*folders):
    """One hash of all that these folders and files hold: results of different sources are not put together."""
    whole = hashlib.sha256()
    for folder in folders:
        start = ROOT / folder
        for path in sorted(p for p in ([start] if start.is_file() else start.rglob("*")) if p.is_file() and "__pycache__" not in p.parts):
            whole.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:16]


def said(*words):
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def facts():
    release = re.search(r"release ([\d.]+)", said("nvcc", "--version"))
    return {
        "sources": {
            "tests": sources("include", "tests", "examples"),
            "perf": sources("include", "bench/cuda/perf"),
            "baseline": sources("bench/cuda/baseline.py"),
        },
        "build": {
            "commit": said("git", "rev-parse", "--short", "HEAD") + ("+" if said("git", "status", "--porcelain") else ""),
            "nvcc": release.group(1) if release else "none",
            "date": store.today(),
        },
    }


def room(whole=64 * 2**20):
    """Bytes left for a kit where `whole` can be carried in all, the working tree with it."""
    names = said("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return whole - sum((ROOT / n).stat().st_size for n in names if n and (ROOT / n).is_file())


def size_of(folder, most):
    """What is said of the kit's size; exits where it is more than what can be carried."""
    files = sorted((p.stat().st_size, p.name) for p in folder.rglob("*") if p.is_file())
    total = sum(size for size, _ in files)
    said = f"{folder.name}: {total / 2**20:.1f} MiB, at most {most / 2**20:.1f} MiB can be carried beside the working tree"
    if total > most:
        sys.exit(f"{said}; the largest file is {files[-1][1]}")
    return said


def main():
    folder, files = pathlib.Path(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:])
    store.write(str(folder / "kit.json"), facts())
    with tarfile.open(folder / "programs.tar.xz", "w:xz", preset=6) as archive:
        for name, path in files.items():
            archive.add(path, name)
    for script in ("run.sh", "record.py", "store.py", "jobs.py", "machine.py", "catch_runs.py", "parts_tests.py", "parts_check.py",
                   "parts_job.py",
                   "baseline.py", "report.py"):
        target = folder / script
        target.write_bytes((ROOT / "bench/cuda" / script).read_bytes())
        target.chmod(0o755 if script == "run.sh" else 0o644)
    print(size_of(folder, room()))


if __name__ == "__main__":
    main()
