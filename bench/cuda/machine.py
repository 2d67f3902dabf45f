"""What this machine is, and where the CUDA libraries lie that the programs need."""
import glob
import os
import platform
import re
import site
import sys

import jobs


def library_folders():
    """Folders with CUDA's libraries: the toolkit's, then those of Python's wheels. One folder per library is enough."""
    places = sorted(glob.glob("/usr/local/cuda*/lib64")) + sorted(glob.glob("/usr/local/cuda*/extras/CUPTI/lib64"))
    roots = site.getsitepackages() + [site.getusersitepackages()] + sys.path
    for root in dict.fromkeys(roots):
        places += sorted(glob.glob(os.path.join(root, "nvidia", "*", "lib")))
    return [p for p in dict.fromkeys(map(os.path.realpath, places)) if glob.glob(os.path.join(p, "lib*.so*"))]


def library_path():
    own = os.environ.get("LD_LIBRARY_PATH", "")
    return ":".join(([own] if own else []) + library_folders())


def missing_libraries(program, env):
    return re.findall(r"^\s*(\S+) => not found", jobs.answer("ldd", program, env=env), re.MULTILINE)


def describe():
    """Names and versions; empty where there is no GPU."""
    fields = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory"
    line = jobs.answer("nvidia-smi", "--query-gpu=" + fields, "--format=csv,noheader").split("\n")[0]
    if line.count(",") < 4:
        return {}
    name, driver, memory, clock, memory_clock = [word.strip() for word in line.split(",")]
    cuda = re.search(r"CUDA Version:\s*([\d.]+)", jobs.answer("nvidia-smi"))
    release = re.search(r"release ([\d.]+)", jobs.answer("nvcc", "--version"))
    return {
        "gpu": name,
        "driver": driver,
        "memory": memory,
        "clocks": {"sm": clock, "memory": memory_clock},
        "cuda_of_driver": cuda.group(1) if cuda else "unknown",
        "nvcc": release.group(1) if release else "none",
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
