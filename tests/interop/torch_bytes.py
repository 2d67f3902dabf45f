"""Our safetensors files against safetensors.torch, for every type of torch that it writes."""
import subprocess

import torch
from safetensors.torch import load_file, save_file

NAMES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16",
         "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
         "float8_e8m0fnu", "float4_e2m1fn_x2"]


def contents():
    generator = torch.Generator().manual_seed(12)

    def tensor(dtype, shape):
        size = torch.empty(0, dtype=dtype).element_size()
        values = 2 if dtype is torch.bool else 256
        raw = torch.randint(0, values, [*shape, size], dtype=torch.uint8, generator=generator)
        return raw.view(dtype).reshape(shape)

    types = [getattr(torch, n) for n in NAMES]
    for name, dtype in zip(NAMES, types):
        shapes = [[2, 3], [5], [2, 1, 4], [0, 2], [3, 0]] + ([] if name.startswith("float4") else [[]])
        yield name, {f"{name} {i}": tensor(dtype, s) for i, s in enumerate(shapes)}, {"format": "pt"}
    yield "all", {n: tensor(t, [4]) for n, t in zip(NAMES, types)}, None


def raw_bytes(t):
    return t.reshape(-1).view(torch.uint8)


def check(report, program, work):
    wrong, count = [], 0
    for what, tensors, metadata in contents():
        save_file(tensors, work / "theirs.safetensors", metadata=metadata)
        subprocess.run([program, "rewrite", work / "theirs.safetensors", work / "ours.safetensors"], check=True)
        count += 1
        if (work / "theirs.safetensors").read_bytes() != (work / "ours.safetensors").read_bytes():
            wrong.append(what)
        back = load_file(work / "ours.safetensors")
        if any(back[n].shape != t.shape or not torch.equal(raw_bytes(back[n]), raw_bytes(t))
               for n, t in tensors.items()):
            wrong.append(what + " (read by torch)")
    report.true(f"bytes equal safetensors.torch's: {count} files, {len(NAMES)} types", not wrong, ", ".join(wrong))
    floats(report, program, work)


def floats(report, program, work):
    """All 65536 values of the 16-bit types."""
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16)
    tensors = {"bf16": every.view(torch.bfloat16).reshape(256, 256),
               "f16": every.clone().view(torch.float16).reshape(256, 256)}
    save_file(tensors, work / "in.safetensors")
    subprocess.run([program, "floats", work / "in.safetensors", work / "out.safetensors"], check=True)
    ours = load_file(work / "out.safetensors")
    wrong = [n for n, t in tensors.items() if not torch.equal(ours[n].nan_to_num(7e7), t.float().nan_to_num(7e7))]
    report.true("every number of BF16 and F16 is read as torch reads it", not wrong, str(wrong))
