"""A user's source for each way into the library, and the flags it needs, for measure.py. What another package brings
(LibTorch, ggml) is left out where it is not at hand: bash tests/libtorch/run.sh and tests/ggml/run.sh fetch it."""
import glob
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def package(venv, name):
    found = glob.glob(os.path.join(ROOT, "build", venv, "lib/python3*/site-packages", name, "include"))
    return found[0] if found else None


def include_only(work, name, *headers):
    path = os.path.join(work, name + ".cpp")
    with open(path, "w") as out:
        out.writelines(f"#include <{header}>\n" for header in headers)
    return path


def routes(work):
    """name -> (source, flags); `work` holds README's program, readme.cpp."""
    single = os.path.join(work, "single")
    subprocess.run([sys.executable, os.path.join(ROOT, "cmake/amalgamate.py"), single], check=True, stdout=subprocess.DEVNULL)
    joined = os.path.join(single, "readme_main.cpp")
    shutil.copy(os.path.join(ROOT, "tests/docs/readme_main.cpp"), joined)
    with open(os.path.join(work, "readme.cpp")) as source, open(os.path.join(single, "readme.cpp"), "w") as out:
        out.write(source.read().replace("<loraga/cpu.hpp>", "<loraga.hpp>"))
    found = {"one header, README program": (joined, ["-I", single]),
             "plain C++ with PEFT files (examples/plain_loop.cpp)": (os.path.join(ROOT, "examples/plain_loop.cpp"), [])}
    torch = package("libtorch", "torch")
    if torch:
        flags = ["-isystem", torch, "-isystem", os.path.join(torch, "torch/csrc/api/include")]
        found["torch/nn.h (LibTorch's own)"] = (include_only(work, "torch_nn", "torch/nn.h"), flags)
        for header in ("view", "modules"):
            name = f"loraga/torch/{header}.hpp"
            found[name] = (include_only(work, "torch_" + header, "loraga/cpu.hpp", name), flags)
    ggml = package("ggml-venv", "libggml")
    if ggml:
        found["ggml (examples/ggml_bridge.cpp)"] = (os.path.join(ROOT, "examples/ggml_bridge.cpp"),
                                                    ["-isystem", ggml, "-DGGML_SHARED", "-DGGML_BACKEND_SHARED"])
    return found
