"""GGUF files as the package gguf writes and decodes them, held against our reader, bit for bit."""
import json
import subprocess

import gguf
import numpy as np

T = gguf.GGMLQuantizationType
DECODED = [T.F32, T.F16, T.BF16, T.F64, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K]
# Where a block's 16-bit scales are: random bits there are often infinite, NaN or huge.
SCALES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def blocks(rng, type, rows, per_row):
    """Random packed bytes, (rows, bytes of a row). Scales are numbers of all sizes, subnormal ones among them; those of
    the last row are any bits."""
    elements, size = gguf.GGML_QUANT_SIZES[type]
    packed = rng.integers(0, 256, (rows, per_row, size), dtype=np.uint8)
    for at in SCALES.get(type, []):
        scale = (rng.standard_normal((rows - 1, per_row)) * 10.0 ** rng.integers(-7, 4, (rows - 1, per_row)))
        packed[:-1, :, at:at + 2] = scale.astype(np.float16)[..., None].view(np.uint8)
    return packed.reshape(rows, per_row * size)


def write(path, tensors, metadata=()):
    """tensors: {name: (type, packed bytes)}; metadata: (key, value, gguf type)"""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value, kind in metadata:
        writer.add_key_value(key, value, kind)
    for name, (type, packed) in tensors.items():
        writer.add_tensor(name, packed, raw_dtype=type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def decoded(type, packed):
    if type == T.F64:
        with np.errstate(over="ignore"):
            return packed.view(np.float64).astype(np.float32)
    return gguf.quants.dequantize(packed, type).astype(np.float32)


def read(program, path, work):
    run = subprocess.run([program, path, work / "floats.f32"], check=True, capture_output=True, text=True)
    return json.loads(run.stdout), np.fromfile(work / "floats.f32", dtype=np.float32)


def same(a, b):
    """Bits; NaN is any NaN."""
    return a.shape == b.shape and bool(np.all((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))))


def reference_tensors():
    """The committed ones: two rows of each type, of one block of 256 elements or 8 of 32."""
    rng = np.random.default_rng(4)
    result = {}
    for type in DECODED:
        per_row = 256 // gguf.GGML_QUANT_SIZES[type][0] if type in SCALES else 64
        result[type.name] = (type, blocks(rng, type, 2, per_row))
    return result


def check(report, program, work, reference, update):
    rng = np.random.default_rng(5)
    worst = []
    for type in DECODED:
        packed = blocks(rng, type, 65, 40 if type in SCALES else 512)
        write(work / "blocks.gguf", {"x": (type, packed)})
        found, floats = read(program, work / "blocks.gguf", work)
        with np.errstate(all="ignore"):
            expected = decoded(type, packed)
        if found["tensors"] != [["x", type.name, list(expected.shape)]] or not same(floats, expected.ravel()):
            worst.append(type.name)
    report.true(f"decoded bit for bit as the package does: {' '.join(t.name for t in DECODED)}", not worst, " ".join(worst))

    V = gguf.GGUFValueType
    metadata = [("t.text", "ein Täxt", V.STRING), ("t.u8", 255, V.UINT8), ("t.i8", -128, V.INT8), ("t.u16", 65535, V.UINT16),
                ("t.i16", -32768, V.INT16), ("t.u32", 2**32 - 1, V.UINT32), ("t.i32", -2**31, V.INT32),
                ("t.u64", 2**64 - 1, V.UINT64), ("t.i64", -2**63, V.INT64), ("t.f32", 0.5, V.FLOAT32),
                ("t.f64", 1e-300, V.FLOAT64), ("t.true", True, V.BOOL), ("t.texts", ["a", "", "日本"], V.ARRAY),
                ("t.numbers", [1, -2, 3], V.ARRAY), ("t.floats", [0.25, -1.5], V.ARRAY)]
    one = {f"a.{i}": (T.F32, np.full((i, 3), i, np.float32)) for i in range(1, 5)}
    write(work / "metadata.gguf", one, metadata)
    found, floats = read(program, work / "metadata.gguf", work)
    report.same("metadata of every type", {k: v for k, v in found["metadata"].items() if k.startswith("t.")},
                dict(sorted((k, v) for k, v, _ in metadata)))
    report.same("tensors of several sizes", [t[2] for t in found["tensors"]], [[i, 3] for i in range(1, 5)])

    folder = reference / "gguf"
    tensors = reference_tensors()
    with np.errstate(all="ignore"):
        expected = np.concatenate([decoded(*t).ravel() for t in tensors.values()])
    if update:
        folder.mkdir(exist_ok=True)
        write(folder / "blocks.gguf", tensors)
        expected.tofile(folder / "blocks.f32")
    found, floats = read(program, folder / "blocks.gguf", work)
    report.true("the committed blocks are what the package says now",
                same(floats, expected) and same(np.fromfile(folder / "blocks.f32", dtype=np.float32), expected))
