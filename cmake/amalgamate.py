#!/usr/bin/env python3
"""amalgamate.py FOLDER: writes FOLDER/loraga.hpp, all of <loraga/cpu.hpp> in one file, and FOLDER/loraga_io.hpp, the same
with every header of loraga/io. Foreign headers stay includes: the standard library's, Eigen's and, for files, JSON's.
The result depends on the sources alone. Both files may be included together, in either order."""
import pathlib
import re
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = ROOT / "include"
OWN = re.compile(r"^\s*#\s*include\s*<(loraga/[^>]+)>.*$")
FOREIGN = re.compile(r"^\s*#\s*include\s*<([^>]+)>")
OPENS, CLOSES = re.compile(r"^\s*#\s*if"), re.compile(r"^\s*#\s*endif")
EMPTY = re.compile(r"^#if[^\n]*\n(?:#else[^\n]*\n)?#endif[^\n]*\n", re.M)


def in_order(header, order):
    """Appends `header` to `order`, behind everything that it includes, under whatever condition."""
    if header in order:
        return
    for line in (INCLUDE / header).read_text().splitlines():
        if used := OWN.match(line):
            in_order(used[1], order)
    order.append(header)


def foreign_of(header):
    """What a header includes of others under no condition."""
    depth = 0
    for line in (INCLUDE / header).read_text().splitlines():
        depth += bool(OPENS.match(line)) - bool(CLOSES.match(line))
        if depth == 0 and (used := FOREIGN.match(line)) and not OWN.match(line):
            yield used[1]


def body_of(header, included):
    """The text of a header without includes of loraga's and without those that stand at the head already."""
    lines = []
    for line in (INCLUDE / header).read_text().splitlines():
        if line.strip() in ("#pragma once", "#pragma GCC system_header") or OWN.match(line):
            continue
        if (used := FOREIGN.match(line)) and used[1] in included:
            continue
        lines.append(line)
    return EMPTY.sub("", "\n".join(lines) + "\n").strip("\n")


def version():
    text = (INCLUDE / "loraga/version.hpp").read_text()
    return ".".join(re.findall(r"LORAGA_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text))


def amalgamation(roots, title):
    order = []
    for root in roots:
        in_order(root, order)
    foreign = {used for header in order for used in foreign_of(header)}
    sections = []
    for header in order:
        body = body_of(header, foreign)
        guard = "LORAGA_SINGLE_" + re.sub(r"\W", "_", header.removeprefix("loraga/")).upper()
        if body:
            sections.append(f"// {header}\n#ifndef {guard}\n#define {guard}\n{body}\n#endif\n")
    third = sorted(h for h in foreign if "/" in h)
    standard = sorted(foreign - set(third))
    head = f"""// loraga {version()}: {title}, in one file.
// SPDX-License-Identifier: Apache-2.0
// Licensed under the Apache License, Version 2.0; its text comes along as LICENSE (http://www.apache.org/licenses/LICENSE-2.0).
// Written by cmake/amalgamate.py from the headers below: change those. Needs C++20; link with threads (-pthread).
#pragma once
#if defined(LORAGA_VERSION_MAJOR) && !defined(LORAGA_SINGLE_VERSION_HPP)
#error "loraga: <loraga/...> is included before this file, which holds the same: use one or the other"
#endif
#pragma GCC system_header
"""
    includes = "".join(f"#include <{h}>\n" for h in third + standard)
    return head + includes + "\n" + "\n".join(sections)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(str(h.relative_to(INCLUDE)) for h in (INCLUDE / "loraga/io").glob("*.hpp"))
    cpu = "loraga/cpu.hpp"
    (folder / "loraga.hpp").write_text(amalgamation([cpu], "every policy, on the CPU"))
    (folder / "loraga_io.hpp").write_text(amalgamation([cpu, *files], "every policy, on the CPU, and files"))
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")


main()
