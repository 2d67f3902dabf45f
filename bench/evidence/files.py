"""Result files, and what they say of where they were made."""
import json
import os
import re
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def commit():
    changed = output_of("git", "status", "--porcelain", "--", "../../include", "../../examples", "../../cmake", "../../CMakeLists.txt")
    return (output_of("git", "rev-parse", "HEAD") or "unknown") + (" with local changes" if changed else "")


def machine(device):
    info = open("/proc/cpuinfo").read()
    cpu = re.search(r"model name\s*: (.*)", info)
    found = {"cpu": cpu[1] if cpu else "unknown", "cores": os.cpu_count(), "avx512": " avx512f" in info,
             "compiler": output_of("g++", "--version").split("\n")[0]}
    if device == "cuda":
        found["gpu"] = output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") or "unknown"
        found["cuda_compiler"] = output_of("nvcc", "--version").split("\n")[-1]
    return found


def json_lines(value):
    """JSON with one line for each element of a list of objects."""
    def text(v, depth):
        pad = " " * depth
        if isinstance(v, dict) and depth < 3 and any(isinstance(x, (dict, list)) for x in v.values()):
            return "{\n" + ",\n".join(f"{pad} {json.dumps(k)}: {text(x, depth + 1)}" for k, x in v.items()) + f"\n{pad}}}"
        if isinstance(v, list) and v and isinstance(v[0], dict):
            return "[\n" + ",\n".join(f"{pad} {json.dumps(x, allow_nan=False)}" for x in v) + f"\n{pad}]"
        return json.dumps(v, allow_nan=False)

    return text(value, 0) + "\n"


def replace(path, text):
    with open(f"{path}.new", "w") as out:
        out.write(text)
    os.replace(f"{path}.new", path)
