#!/usr/bin/env python3
"""The API reference, from the docstrings of include/loraga.

generate.py OUT_FOLDER    writes index.md and one page per part, as docs/site.sh takes them
generate.py --check       fails, with names, for what docs/contributing.md asks of docstrings and snippets
"""
import sys
from pathlib import Path

import rules
from headers import TAGS, read_headers
from pages import Pages
from parts import ROOFS, ROOT, part_of, read_glossary, read_snippets


def check(headers):
    """What is wrong, one line each."""
    explain = rules.Explanations(headers, read_glossary())
    wrong = []

    def report(n, text):
        wrong.append(f"include/{n.header}:{n.line}: {text}")

    for header in headers:
        if part_of(header) is None and rules.short(header) not in ROOFS:
            wrong.append(f"include/{header}: on no page; see PARTS in docs/api/generate.py")
    for n in rules.undocumented(headers, explain):
        report(n, f"{n.kind} {n.full} has no docstring")
    for n, line in rules.broken_tags(headers, TAGS):
        report(n, f"{n.full}: a tag in the middle of a line: {line}")
    for n in rules.without_cost(headers):
        report(n, f"{n.name} does not say what it costs: neither cost nor memory")
    shown, files = read_snippets()
    for n in rules.choices(headers):
        if n.name not in shown:
            report(n, f"{n.kind} {n.name} has no snippet in docs/snippets")
    known = {n.name for names in headers.values() for n in names}
    main = (ROOT / "tests/docs/snippets_main.cpp").read_text() if (ROOT / "tests/docs/snippets_main.cpp").exists() else ""
    for file, names in files.items():
        wrong += [f"docs/snippets/{file}: shows {n}, which no header has" for n in names if n not in known]
        if not names:
            wrong.append(f"docs/snippets/{file}: the first line is not // shows NAME ...")
        if file.endswith(".cpp") and f'#include "{file}"' not in main:
            wrong.append(f"docs/snippets/{file}: not included by tests/docs/snippets_main.cpp")
    return wrong


if __name__ == "__main__":
    all_headers = read_headers(ROOT / "include")
    if sys.argv[1:] == ["--check"]:
        problems = check(all_headers)
        print("\n".join(problems) or "every public name is documented")
        sys.exit(1 if problems else 0)
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    Pages(all_headers).write(Path(sys.argv[1]))
