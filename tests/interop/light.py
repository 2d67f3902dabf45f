"""Our safetensors files against the Python package's, byte for byte, and files that both must refuse; GGUF files as the
package gguf writes and decodes them.

    light.py --bytes PROGRAM --gguf-reader PROGRAM --work FOLDER --reference FOLDER [--update]

The programs are bytes.cpp and gguf_reader.cpp, compiled. Needs numpy, safetensors and gguf only.
"""
import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

import gguf_files
import vectors
from report import Report

# What the package calls the types it writes; F6_* it reads only.
WRITTEN = {"bool": 1, "uint8": 1, "int8": 1, "float4_e2m1fn_x2": 1, "float8_e5m2": 1, "float8_e4m3fn": 1,
           "float8_e8m0fnu": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "int16": 2, "uint16": 2, "float16": 2,
           "bfloat16": 2, "int32": 4, "uint32": 4, "float32": 4, "complex64": 8, "float64": 8, "int64": 8, "uint64": 8}
NAMES = ["", " ", "a", "A", "b", "a.b", "a/b", "é", "ü", "日本", "😀", "\U0010ffff", "\ue000", '"', "\\", "\\u0041",
         "\n", "\t\r\b\f", "\x00", "\x01\x1f", "\x7f", "\x80\x9f", "\u2028", "</script>", "{}",
         "a" * 300, "__metadata", "'"]


def random_bytes(rng, count):
    return rng.integers(0, 256, count, dtype=np.uint8)


def write_raw(path, tensors, metadata):
    """tensors: {name: (package's type, shape, uint8 array)}"""
    specs = {name: safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=data.ctypes.data, data_len=data.nbytes)
             for name, (dtype, shape, data) in tensors.items()}
    safetensors.serialize_file(specs, path, metadata=metadata)


def contents():
    """(what, {name: (type, shape, bytes)}, metadata)"""
    rng = np.random.default_rng(1)

    def tensor(dtype, shape):
        return dtype, shape, random_bytes(rng, int(np.prod(shape)) * WRITTEN[dtype])

    for dtype in WRITTEN:
        shapes = [[2, 3], [7], [1, 2, 3, 2], [0, 2], [2, 0, 3], [0]]
        if dtype != "float4_e2m1fn_x2":  # the package doubles the last size of this type
            shapes.append([])
        yield dtype, {f"t{i}": tensor(dtype, s) for i, s in enumerate(shapes)}, {"format": "pt"}
    yield "all types", {d: tensor(d, [3]) for d in WRITTEN}, {"format": "np"}
    yield "names", {n: tensor("float32", [i % 3, 2]) for i, n in enumerate(NAMES)}, None
    for i, name in enumerate(NAMES):
        yield f"metadata {i}", {"a": tensor("int8", [i])}, {name: NAMES[-1 - i]}
    yield "no metadata", {"a": tensor("float32", [2])}, None
    yield "no tensors", {}, {"a": "b"}
    yield "nothing", {}, None
    for i in range(16):  # every remainder of the padding
        yield f"padding {i}", {"n" * (i + 1): tensor("uint8", [i])}, None
    many = {f"layer.{i}.{k}": tensor(d, [i % 4, 3]) for i in range(40) for k, d in enumerate(WRITTEN)}
    yield "many", many, {"k": "v"}


def check_bytes(report, program, work):
    wrong, count = [], 0
    for what, tensors, metadata in contents():
        theirs, ours = work / "theirs.safetensors", work / "ours.safetensors"
        write_raw(theirs, tensors, metadata)
        subprocess.run([program, "rewrite", theirs, ours], check=True)
        count += 1
        if theirs.read_bytes() != ours.read_bytes():
            wrong.append(what)
        found = dict(safetensors.deserialize(ours.read_bytes()))
        if set(found) != set(tensors) or any(bytes(found[n]["data"]) != t[2].tobytes() for n, t in tensors.items()):
            wrong.append(what + " (read by the package)")
    report.true(f"bytes equal the package's: {count} files", not wrong, ", ".join(wrong[:5]))


def check_floats(report, program, work):
    rng = np.random.default_rng(2)
    values = rng.standard_normal((5, 7)) * 10.0 ** rng.integers(-6, 4, (5, 7))
    tensors = {"f64": values, "f32": values.astype(np.float32), "f16": values.astype(np.float16),
               "f16 as it comes": random_bytes(rng, 70).view(np.float16).reshape(5, 7),
               "three": values.astype(np.float32).reshape(5, 7, 1), "scalar": np.array(2.5, dtype=np.float32)}
    save_file(tensors, work / "in.safetensors")
    subprocess.run([program, "floats", work / "in.safetensors", work / "out.safetensors"], check=True)
    ours = load_file(work / "out.safetensors")
    wrong = [n for n, t in tensors.items() if ours[n].tobytes() != t.astype(np.float32).tobytes()
             and not np.array_equal(ours[n].ravel(), t.astype(np.float32).ravel(), equal_nan=True)]
    report.true("numbers read equal the package's: F64 F32 F16", not wrong and len(ours) == len(tensors), str(wrong))


def judge(program, work, files):
    """Our answers: {"tensors": ...} or {"message": ...} for each file."""
    lines = "\n".join(f.hex() for f in files) + "\n"
    run = subprocess.run([program, "judge", work], input=lines, capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"judge ended with {run.returncode}: {run.stderr}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def check_vectors(report, program, work):
    rows = vectors.table()
    answers = judge(program, work, [bytes.fromhex(r["hex"]) for r in rows])
    wrong, strict = [], []
    for row, answer in zip(rows, answers):
        accepts = "tensors" in answer
        if accepts != (row["ours"] == "accept") or (accepts and answer["tensors"] != row["tensors"]):
            wrong.append(row["name"])
        if "stricter" in row:
            strict.append(row["name"])
    refused, opened = sum(r["package"] == "reject" for r in rows), 0
    for row in rows:  # the package's other way in, through a file
        (work / "opened.safetensors").write_bytes(bytes.fromhex(row["hex"]))
        try:
            with safetensors.safe_open(work / "opened.safetensors", "np"):
                opened += 1
        except safetensors.SafetensorError:
            pass
    report.same("safe_open accepts as many of them as deserialize", opened, len(rows) - refused)
    report.true(f"files accepted and refused: {len(rows)}, of which the package refuses {refused}", not wrong,
                ", ".join(wrong[:5]))
    return strict


# Parts of our messages for files that the package accepts: see the reasons in vectors.py.
STRICTER = ["for the second time", "nested deeply", "missing, expected a dtype", "expected a string", "to 2^62",
            "below 2^64 bits"]


def check_mutations(report, program, work, count=20000):
    """Valid files with bytes changed, removed or added: what the package refuses we must refuse."""
    random.seed(3)
    alphabet = b'{}[]",:0123456789-.eEabdfx\\u \n\0\xff\xc3'
    seeds = [b for _, b, _ in vectors.vectors() if vectors.package_says(b)[0] is not None and len(b) < 400]
    files = []
    for _ in range(count):
        content = bytearray(random.choice(seeds))
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(content))
            what = random.random()
            if what < 0.5:
                content[at] = random.choice(alphabet)
            elif what < 0.65:
                del content[at]
            elif what < 0.8:
                content.insert(at, random.choice(alphabet))
            else:  # a part of another file
                other = random.choice(seeds)
                start = random.randrange(len(other))
                content[at:at] = other[start:start + random.randint(1, 40)]
        if random.random() < 0.8 and len(content) > 8:  # a length that fits, so that the JSON is looked at
            end = content.rfind(b"}") + 1
            content[:8] = max(end - 8, 0).to_bytes(8, "little")
        files.append(bytes(content))
    too_lax, unexplained, different, strict, both = [], [], [], 0, 0
    for content, answer in zip(files, judge(program, work, files)):
        tensors, _ = vectors.package_says(content)
        if "tensors" in answer:
            both += 1
            if tensors is None:
                too_lax.append(content)
            elif answer["tensors"] != tensors:
                different.append(content)
        elif tensors is not None:
            strict += 1
            if not any(reason in answer["message"] for reason in STRICTER):
                unexplained.append((content, answer["message"]))
    report.true(f"{count} damaged files: none accepted that the package refuses ({both} accepted by both)", not too_lax,
                str(too_lax[:2]))
    report.true("damaged files that both accept are read alike", not different, str(different[:2]))
    report.true(f"damaged files that only we refuse ({strict}) are of the kinds listed", not unexplained,
                str(unexplained[:2]))


def check_many(report, program, work, count=40000):
    """Opening and listing is linear in the tensors, and costs what it costs the package."""
    names = [f"base_model.model.model.layers.{i // 800}.mlp.experts.{i // 2 % 400}.up_proj.lora_{'AB'[i % 2]}.weight"
             for i in range(count)]
    save_file({n: np.zeros((1, 1), np.float32) for n in names}, work / "many.safetensors")
    ours, theirs = [], []
    for _ in range(7):
        begin = time.perf_counter()
        with safetensors.safe_open(work / "many.safetensors", "np") as file:
            sizes = sum(len(file.get_slice(name).get_shape()) for name in file.keys())
        theirs.append(time.perf_counter() - begin)
        out = subprocess.run([program, "open", work / "many.safetensors"], check=True, capture_output=True, text=True)
        ours.append(float(out.stdout.split()[0]))
        assert int(out.stdout.split()[1]) == sizes == 2 * count
    mine, package = statistics.median(ours), statistics.median(theirs)
    report.true(f"{count} tensors opened and listed in {mine:.2f} s, by the package in {package:.2f} s: within 3 times that",
                mine <= 3 * package)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bytes", type=Path, required=True)
    parser.add_argument("--gguf-reader", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    options.bytes = options.bytes.resolve()
    options.gguf_reader = options.gguf_reader.resolve()
    report = Report()
    check_bytes(report, options.bytes, options.work)
    check_floats(report, options.bytes, options.work)
    strict = check_vectors(report, options.bytes, options.work)
    check_mutations(report, options.bytes, options.work)
    check_many(report, options.bytes, options.work)
    gguf_files.check(report, options.gguf_reader, options.work, options.reference, options.update)
    committed = options.reference / "safetensors_vectors.json"
    if options.update:
        committed.write_text(vectors.table_text())
    report.true("the committed vectors are what the package says now",
                committed.exists() and committed.read_text() == vectors.table_text())
    print(report.text(), end="")
    print("We refuse, the package accepts: " + "; ".join(strict))
    return report.failed()


if __name__ == "__main__":
    sys.exit(main())
