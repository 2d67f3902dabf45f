"""Files that a safetensors reader must accept or reject, and what the Python package says of each."""
import json
import re
import struct

import safetensors

# Why loraga rejects some files that the package accepts.
TWICE = "keys that appear twice: readers differ in which they keep"
DEEP = "nesting below a tensor's entry: nothing the format defines"
SEQUENCE = "an entry as a list or a dtype as an object: the package's JSON library allows it, the format does not"
LARGE = "sizes from 2^62 on, or products that overflow before a size of 0 comes"

ONE = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
DATA = b"\x00\x00\x80\x3f"


def file(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype="F32", shape="[1]", offsets="[0,4]", more=""):
    return '{"dtype":"%s","shape":%s,"data_offsets":%s%s}' % (dtype, shape, offsets, more)


def tensor(*args, **more):
    return '{"a":%s}' % entry(*args, **more)


def pair(first, second):
    return '{"a":%s,"b":%s}' % (entry(offsets=first), entry(offsets=second))


def vectors():
    """[(name, bytes, why ours differs or None)]"""
    all = []

    def add(name, bytes, stricter=None):
        all.append((name, bytes, stricter))

    add("one tensor", file(ONE, DATA))
    # length of the header
    add("empty file", b"")
    add("seven bytes", b"\x02\0\0\0\0\0\0")
    add("length alone", file("", b""))
    add("length 0 before data", file("", DATA))
    add("length past the end", file(ONE, DATA, len(ONE) + 5))
    add("length just past the end", file(ONE, b"", len(ONE) + 1))
    add("length 100000001", file(ONE, DATA, 100_000_001))
    add("length 2^63", file(ONE, DATA, 2**63))
    add("length 2^64-1", file(ONE, DATA, 2**64 - 1))
    add("length 2^64-8, which wraps", file(ONE, DATA, 2**64 - 8))
    add("length cuts the JSON", file(ONE, DATA, len(ONE) - 1))
    # text and JSON
    add("no tensors", file("{}"))
    add("no tensors but data", file("{}", DATA))
    add("not JSON", file("hello wo", DATA))
    add("not UTF-8 in a name", file(b'{"\xff":' + entry().encode() + b"}", DATA))
    add("overlong UTF-8 in a name", file(b'{"\xc0\xaf":' + entry().encode() + b"}", DATA))
    add("UTF-8 of a surrogate in a name", file(b'{"\xed\xa0\x80":' + entry().encode() + b"}", DATA))
    add("not UTF-8 after the JSON", file(ONE.encode() + b"\xff", DATA))
    add("lone surrogate escape", file('{"\\ud800":%s}' % entry(), DATA))
    add("surrogate pair escape", file('{"\\ud83d\\ude00":%s}' % entry(), DATA))
    add("name with escaped NUL", file('{"a\\u0000b":%s}' % entry(), DATA))
    add("name with a raw control character", file('{"a\x01":%s}' % entry(), DATA))
    add("empty name", file('{"":%s}' % entry(), DATA))
    add("byte order mark", file("\ufeff" + ONE, DATA))
    add("NUL after the JSON", file(ONE + "\0\0", DATA))
    add("NUL before the JSON", file("\0" + ONE, DATA))
    add("spaces after the JSON", file(ONE + "   ", DATA))
    add("all whitespace after the JSON", file(ONE + " \t\r\n", DATA))
    add("whitespace before the JSON", file(" \n\t" + ONE, DATA))
    add("whitespace inside the JSON", file(ONE.replace(":", " :\n "), DATA))
    add("form feed after the JSON", file(ONE + "\x0c", DATA))
    add("two JSON objects", file(ONE + ONE, DATA))
    add("trailing comma", file(ONE[:-1] + ",}", DATA))
    add("comment", file("/**/" + ONE, DATA))
    add("single quotes", file(ONE.replace('"', "'"), DATA))
    add("an array", file("[" + ONE + "]", DATA))
    add("a string", file('"abc"'))
    add("null", file("null"))
    add("a number", file("1234"))
    add("unaligned data", file(ONE + " ", DATA))
    add("keys in another order", file('{"a":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}}', DATA))
    # entries
    add("entry is null", file('{"a":null}'))
    add("entry is a number", file('{"a":4}', DATA))
    add("entry is a list", file('{"a":["F32",[1],[0,4]]}', DATA), SEQUENCE)
    for key in ["dtype", "shape", "data_offsets"]:
        fields = json.loads(entry())
        del fields[key]
        add(f"no {key}", file(json.dumps({"a": fields}), DATA))
    add("unknown key in an entry", file(tensor(more=',"x":1'), DATA))
    add("unknown key with a list", file(tensor(more=',"x":[1]'), DATA))
    add("unknown key, nested", file(tensor(more=',"x":{"y":{"z":1}}'), DATA), DEEP)
    add("unknown key, a number out of range", file(tensor(more=',"x":1e999'), DATA))
    add("unknown key, NaN", file(tensor(more=',"x":NaN'), DATA))
    # dtypes
    add("unknown dtype", file(tensor("F31"), DATA))
    add("lower-case dtype", file(tensor("f32"), DATA))
    add("dtype with a space", file(tensor("F32 "), DATA))
    add("dtype C128", file(tensor("C128", offsets="[0,16]"), bytes(16)))
    add("dtype is a number", file(tensor().replace('"F32"', "32"), DATA))
    add("dtype is an object", file(tensor().replace('"F32"', '{"F32":null}'), DATA), SEQUENCE)
    for dtype, bits in BITS.items():
        add(f"dtype {dtype}", file(tensor(dtype, "[8]", f"[0,{bits}]"), bytes(range(bits))))
        if bits % 8:
            up, down = -(-3 * bits // 8), 3 * bits // 8
            add(f"{dtype}, 3 elements", file(tensor(dtype, "[3]", f"[0,{up}]"), bytes(up)))
            add(f"{dtype}, 3 elements, rounded down", file(tensor(dtype, "[3]", f"[0,{down}]"), bytes(down)))
            add(f"{dtype}, 4 elements", file(tensor(dtype, "[2,2]", f"[0,{bits // 2}]"), bytes(bits // 2)))
            add(f"{dtype}, none", file(tensor(dtype, "[0]", "[0,0]")))
    # shapes
    add("a scalar", file(tensor(shape="[]"), DATA))
    add("a scalar of 8 bytes", file(tensor(shape="[]", offsets="[0,8]"), bytes(8)))
    add("no elements", file(tensor(shape="[0]", offsets="[0,0]")))
    add("no elements in three dimensions", file(tensor(shape="[3,0,2]", offsets="[0,0]")))
    add("no elements but bytes", file(tensor(shape="[0]"), DATA))
    add("nine dimensions", file(tensor(shape="[1,1,1,1,1,1,1,1,1]"), DATA))
    add("shape is negative", file(tensor(shape="[-1]"), DATA))
    add("shape is minus zero", file(tensor(shape="[-0]", offsets="[0,0]")))
    add("shape is a float", file(tensor(shape="[1.0]"), DATA))
    add("shape has an exponent", file(tensor(shape="[1e0]"), DATA))
    add("shape is a text", file(tensor(shape='["1"]'), DATA))
    add("shape is a number", file(tensor(shape="1"), DATA))
    add("shape is null", file(tensor(shape="null"), DATA))
    add("shape is true", file(tensor(shape="[true]"), DATA))
    add("shape has a leading zero", file(tensor(shape="[01]"), DATA))
    add("shape of 2^64", file(tensor(shape="[18446744073709551616]"), DATA))
    add("shape of 2^64-1", file(tensor(shape="[18446744073709551615]"), DATA))
    add("product overflows", file(tensor(shape="[4294967296,4294967296]", offsets="[0,0]")))
    add("product overflows to 4 bytes", file(tensor(shape="[4611686018427387905]"), DATA))
    add("bits overflow", file(tensor(shape="[576460752303423488]", offsets="[0,0]")))
    add("product overflows before a zero", file(tensor(shape="[4294967296,4294967296,0]", offsets="[0,0]")))
    add("bits overflow before a zero", file(tensor(shape="[576460752303423488,0]", offsets="[0,0]")), LARGE)
    add("a zero before a size of 2^62", file(tensor(shape="[0,4611686018427387904]", offsets="[0,0]")), LARGE)
    # offsets
    add("too few bytes", file(tensor(), DATA[:3]))
    add("no bytes", file(tensor()))
    add("size larger than the shape", file(tensor(offsets="[0,8]"), bytes(8)))
    add("size smaller than the shape", file(tensor(offsets="[0,2]"), bytes(2)))
    add("trailing byte", file(ONE, DATA + b"\0"))
    add("trailing kilobyte", file(ONE, DATA + bytes(1024)))
    add("starts at 1", file(tensor(offsets="[1,5]"), bytes(5)))
    add("end before begin", file(tensor(offsets="[4,0]"), DATA))
    add("offset is negative", file(tensor(offsets="[-4,0]"), DATA))
    add("offset is a float", file(tensor(offsets="[0.0,4]"), DATA))
    add("one offset", file(tensor(offsets="[4]"), DATA))
    add("three offsets", file(tensor(offsets="[0,4,4]"), DATA))
    add("offsets are an object", file(tensor(offsets='{"0":0,"1":4}'), DATA))
    add("end of 2^64-1", file(tensor(offsets="[0,18446744073709551615]"), DATA))
    add("two tensors", file(pair("[0,4]", "[4,8]"), DATA * 2))
    add("two tensors, second first", file(pair("[4,8]", "[0,4]"), DATA * 2))
    add("hole", file(pair("[0,4]", "[8,12]"), DATA * 3))
    add("overlap", file(pair("[0,4]", "[2,6]"), DATA + b"\0\0"))
    add("same range twice", file(pair("[0,4]", "[0,4]"), DATA))
    ten = ",".join('"t%d":%s' % (i, entry()) for i in range(10))
    add("ten tensors on one range", file("{%s}" % ten, DATA))
    empty = entry(shape="[0]", offsets="[4,4]")
    add("empty tensor between two", file('{"a":%s,"b":%s,"c":%s}' % (entry(), empty, entry(offsets="[4,8]")), DATA * 2))
    add("empty tensor inside another", file('{"a":%s,"b":%s}' % (entry(), empty.replace("4,4", "2,2")), DATA))
    add("empty tensor past the end", file('{"a":%s,"b":%s}' % (entry(), empty.replace("4,4", "8,8")), DATA))
    add("two empty tensors in one place", file('{"a":%s,"b":%s,"c":%s}' % (entry(), empty, empty), DATA))
    # keys twice
    add("a tensor twice", file('{"a":%s,"a":%s}' % (entry(), entry()), DATA), TWICE)
    add("a tensor twice, the first broken", file('{"a":%s,"a":%s}' % (entry(offsets="[0,8]"), entry()), DATA), TWICE)
    add("a tensor twice, one name escaped", file('{"a":%s,"\\u0061":%s}' % (entry(), entry()), DATA), TWICE)
    add("dtype twice", file(tensor(more=',"dtype":"F32"'), DATA))
    add("unknown key twice", file(tensor(more=',"x":1,"x":2'), DATA), TWICE)
    # metadata
    meta = '{"__metadata__":%s,"a":' + entry() + "}"
    add("metadata", file(meta % '{"format":"pt"}', DATA))
    add("metadata with escapes", file(meta % '{"\\"\\n\\u00e9":"\\u0000\\\\"}', DATA))
    add("metadata after the tensors", file('{"a":%s,"__metadata__":{"k":"v"}}' % entry(), DATA))
    add("metadata alone", file('{"__metadata__":{"k":"v"}}'))
    add("metadata is empty", file(meta % "{}", DATA))
    add("metadata is null", file(meta % "null", DATA))
    add("metadata is a number", file(meta % "1", DATA))
    add("metadata is a text", file(meta % '"k"', DATA))
    add("metadata is a list", file(meta % "[]", DATA))
    add("metadata holds a number", file(meta % '{"k":1}', DATA))
    add("metadata holds null", file(meta % '{"k":null}', DATA))
    add("metadata holds an object", file(meta % '{"k":{"x":"y"}}', DATA))
    add("metadata holds a list", file(meta % '{"k":["v"]}', DATA))
    add("metadata is a tensor", file('{"__metadata__":%s}' % entry(), DATA))
    add("metadata twice", file('{"__metadata__":{},"__metadata__":{},"a":%s}' % entry(), DATA))
    add("a metadata key twice", file(meta % '{"k":"v","k":"w"}', DATA), TWICE)
    return all


BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
        "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}


def package_says(bytes_):
    """None, or the tensors it reads: {name: [dtype, shape, bytes in hex]}; and its message."""
    try:
        found = safetensors.deserialize(bytes_)
    except safetensors.SafetensorError as e:
        message = str(e).split(": ", 1)[1].split(" at line ")[0]
        return None, re.sub("tensor `[^`]*`", "a tensor", message)  # which one is at random
    return {name: [t["dtype"], list(t["shape"]), bytes(t["data"]).hex()] for name, t in found}, ""


def table():
    """The vectors with the package's answers, as tests/io/safetensors_vectors.cpp reads them."""
    rows = []
    for name, content, stricter in vectors():
        tensors, message = package_says(content)
        row = {"name": name, "hex": content.hex(), "package": "reject" if tensors is None else "accept",
               "ours": "reject" if tensors is None or stricter else "accept"}
        if message:
            row["message"] = message
        if stricter:
            assert tensors is not None, name
            row["stricter"] = stricter
        if row["ours"] == "accept":
            row["tensors"] = tensors
        rows.append(row)
    assert len({r["name"] for r in rows}) == len(rows)
    return rows


def table_text():
    lines = ",\n".join("  " + json.dumps(row, sort_keys=True) for row in table())
    return "[\n" + lines + "\n]\n"
