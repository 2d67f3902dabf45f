#!/usr/bin/env python3
"""The API reference, from the docstrings of include/loraga.

generate.py OUT_FOLDER    writes index.html and one page per part
generate.py --check       fails, with names, for what docs/contributing.md asks of docstrings and snippets
"""
import html
import re
import sys
import textwrap
import zlib
from pathlib import Path

import rules
from headers import TAGS, read_headers, split_doc

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PARTS = [  # (file, title, what it is, headers or folders)
    ("start", "Starting an adapter", "Initialisers, anchors, and what ties them to a layer.", ["initialise.hpp", "start/", "init/"]),
    ("adapter", "Adapters", "LoRA and its relatives, around your own base product.", ["adapter/"]),
    ("gradient", "Gradient estimates", "Accumulators of the mean weight gradient, and of input statistics.", ["gradient/"]),
    ("ranks", "Many ranks", "Estimates, starts and steps beyond one process; docs/ranks.md shows them at work.", ["distributed/"]),
    ("svd", "Truncated SVDs", "Methods that find leading singular triplets.", ["svd/"]),
    ("scale", "Scale and rank", "s from alpha and the rank; ranks per layer.", ["scaling.hpp", "rank_allocation.hpp"]),
    ("optim", "Optimiser", "AdamW with LoRA+ groups, schedules, clipping.", ["optim/"]),
    ("diagnostics", "Diagnostics", "How good a start is.", ["diagnostics/"]),
    ("contract", "Concepts", "What a class of your own must have; docs/contract.md says the same in prose.", ["concepts.hpp"]),
    ("io", "Files", "PEFT and GGUF adapters, safetensors, merging, checkpoints.", ["io/"]),
    ("backend", "Backends", "The CPU through Eigen, a GPU through CUDA.", ["backend/"]),
    ("core", "Views, memory, errors", "What everything is written with.", ["core/", "version.hpp"]),
    ("linalg", "Building blocks", "Elementwise work, sums, random matrices, orthonormal blocks, over any backend.", ["linalg/"]),
]
ROOFS = ("loraga.hpp", "cpu.hpp", "cuda.cuh", "distributed.hpp")  # hold includes only
KINDS = {"class": "class", "function": "function", "concept": "concept", "enum": "enumeration", "alias": "type", "variable": "constant"}
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1c2024;margin:0 auto;max-width:62rem;padding:1rem 1.5rem 6rem}
nav{font-size:.9rem;margin-bottom:1.5rem}nav a{margin-right:.8rem}a{color:#0b5cad;text-decoration:none}a:hover{text-decoration:underline}
h1{font-size:1.7rem}h2{font-size:1.1rem;color:#5b6570;font-weight:500;margin-top:2.5rem;border-bottom:1px solid #d9dee3}
h3{font-size:1.15rem;margin:2rem 0 .3rem}h3 small{color:#5b6570;font-weight:400}
pre{background:#f5f7f9;border:1px solid #e3e8ec;border-radius:4px;padding:.7rem .9rem;overflow-x:auto;font-size:.84rem;line-height:1.45}
code{font-size:.9em}dl{display:grid;grid-template-columns:5.5rem 1fr;gap:.15rem .8rem;margin:.6rem 0}dt{color:#5b6570;font-size:.9rem}dd{margin:0}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td{vertical-align:top;border-top:1px solid #e8ecf0;padding:.25rem .7rem .25rem 0}
td:first-child{width:42%}td pre{margin:0;padding:.1rem .3rem;border:0;white-space:pre-wrap}.by{color:#5b6570}input{font:inherit;width:100%;padding:.4rem;box-sizing:border-box}
details summary{cursor:pointer;color:#0b5cad}
"""
FILTER = """<script>const q=document.querySelector('input');q.oninput=()=>{const t=q.value.toLowerCase();
document.querySelectorAll('tr').forEach(r=>r.hidden=!r.textContent.toLowerCase().includes(t));
document.querySelectorAll('h2').forEach(h=>h.hidden=!!t)}</script>"""


def read_glossary():
    lines = (HERE / "glossary.txt").read_text().splitlines()
    return dict(l.split(None, 1) for l in lines if l and not l.startswith("#"))


def read_snippets():
    """{name: [(title, code)]} from docs/snippets, and each concept's smallest class from docs/contract.md."""
    shown, files = {}, {}
    for path in sorted((ROOT / "docs/snippets").glob("*.c*")):
        first, code = path.read_text().split("\n", 1)
        found = re.match(r"// shows (.+)", first)
        names = re.split(r",? +", found[1].strip()) if found else []
        files[path.name] = names
        for n in names:
            shown.setdefault(n, []).append((f"docs/snippets/{path.name}", code.strip("\n")))
    text = (ROOT / "docs/contract.md").read_text()
    for block in re.findall(r"<!-- snippet: contract.cpp -->\n```cpp\n(.*?)```", text, re.S):
        for concept in dict.fromkeys(re.findall(r"static_assert\(loraga::(\w+)<", block)):
            shown.setdefault(concept, []).append(("docs/contract.md", block.strip("\n")))
    return shown, files


class Pages:
    def __init__(self, headers):
        self.headers = headers
        self.explain = rules.Explanations(headers, read_glossary())
        self.shown, _ = read_snippets()
        self.places = {}
        for header, names in headers.items():
            if part := part_of(header):
                for n in names:
                    self.places.setdefault(n.name, f"{part[0]}.html#{n.name}")

    def words(self, text):
        """Text as HTML, with the names of the reference as links."""
        pieces = re.split(r"(`[^`]*`|https?://\S+|arXiv:\d{4}\.\d{5}|\b[A-Za-z]\w*_\w+\b|\b[A-Z][a-z]+[A-Z]\w+\b)", text)
        out = []
        for p in pieces:
            word = p.strip("`")
            if p.startswith("`") or word in self.places:
                inner = f"<code>{html.escape(word)}</code>"
                out.append(f'<a href="{self.places[word]}">{inner}</a>' if word in self.places else inner)
            elif p.startswith("arXiv:"):
                out.append(f'<a href="https://arxiv.org/abs/{p[6:]}">{p}</a>')
            else:
                out.append(html.escape(p))
        return "".join(out)

    def doc(self, lines):
        paragraphs, tagged = split_doc(lines)
        out = [f"<pre>{html.escape(textwrap.dedent(chr(10).join(p)))}</pre>" if p[0].startswith("  ") else
               "<p>" + self.words(" ".join(l.strip() for l in p)) + "</p>" for p in paragraphs]
        if tagged:
            out.append("<dl>" + "".join(f"<dt>{t}</dt><dd>{self.words(x)}</dd>" for t, x in tagged) + "</dl>")
        return "".join(out)

    def member(self, m):
        if m.doc:
            return self.doc(m.doc)
        text, how = self.explain.text(m) or ("", "")
        if how == "concept":
            return f'<span class="by">as <a href="{self.places.get(text, "")}">{text}</a> asks</span>'
        if how == "base":
            return f'<span class="by">as in <a href="{self.places.get(text, "")}">{text}</a></span>'
        return f'<span class="by">{self.words(text)}</span>'

    def members(self, n):
        rows = []
        declared = {}
        for m in n.members:  # names of one declaration are one row
            if m.kind == "field" and declared.setdefault((m.line, m.signature), m) is not m and m.doc:
                continue
            text = m.name if m.kind == "enumerator" else m.signature
            if m.kind == "class":
                text = "struct " + m.name
            rows.append(f"<tr><td><pre>{html.escape(text.rstrip(';'))}</pre></td><td>{self.member(m)}</td></tr>")
            if m.kind in ("class", "enum"):
                rows.append(f'<tr><td colspan="2">{self.members(m)}</td></tr>')
        fields = "".join(rows)
        return f"<table>{fields}</table>" if rows else ""

    def entry(self, same):
        """One section for names that share a docstring."""
        n = same[0]
        out = []
        names = list(dict.fromkeys(x.name for x in same))
        fresh = [s for s in names if s not in self.on_page]  # overloads further down need no place of their own
        self.on_page.update(fresh)
        out += [f'<a id="{s}"></a>' for s in fresh]
        out.append(f'<h3>{html.escape(", ".join(names))} <small>{KINDS[n.kind]}</small></h3>')
        out.append(self.doc(n.doc))
        if n.kind == "concept":
            out += [f"<pre>{html.escape(x.signature)}</pre>" for x in same]
        else:
            code = "\n".join(x.signature + (";" if x.kind in ("class", "enum") else "") for x in same)
            out.append(f"<pre>{html.escape(code)}</pre>")
        for x in same:
            out.append(self.members(x))
            for title, code in self.shown.get(x.name, []):
                mark = re.sub(r"\W", "-", title + str(hash_of(code)))
                if mark in self.on_page:  # once on a page
                    out.append(f'<p>Used in <a href="#{mark}">{title}</a>.</p>')
                    continue
                self.on_page.add(mark)
                out.append(f"<details{' open' if 'snippets' in title else ''} id=\"{mark}\"><summary>{title}</summary>"
                           f"<pre>{html.escape(code)}</pre></details>")
        return "".join(out)

    def page(self, title, body):
        nav = '<nav><a href="index.html">loraga</a>' + "".join(f'<a href="{p[0]}.html">{p[1]}</a>' for p in PARTS) + "</nav>"
        return (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
                f"<title>{title} - loraga</title><style>{STYLE}</style>{nav}<h1>{title}</h1>{body}</html>")

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        index = ["<p>Every public name of namespace <code>loraga</code>. What the namespaces <code>detail</code>, <code>format</code>, "
                 "<code>gpu</code>, <code>eigen</code> and <code>reductions</code> within it hold is not for users and may change.</p>"
                 "<p><code>#include &lt;loraga/cpu.hpp&gt;</code> has every policy and the CPU backend, <code>&lt;loraga/cuda.cuh&gt;</code> every "
                 "policy and the CUDA backend. <code>&lt;loraga/svd/eigen.hpp&gt;</code> and the headers of <code>loraga/io</code> are included one by one. "
                 "Functors of your own that shall run on a GPU are marked <code>LORAGA_HD</code>.</p>"
                 "<p>Letters are the same everywhere: W is out x in, X in x tokens, Y out x tokens, A r x in, B out x r, G out x in; "
                 "derivatives are d + letter; xT is the transposed of x. Snippets leave out their #include (it stands above them) and "
                 "<code>using namespace loraga;</code>; the tests compile and run all of them.</p><input placeholder='a name, or a word of what it does'>"]
        for key, title, what, _ in PARTS:
            body, rows, self.on_page = [f"<p>{what}</p>"], [], set()
            for header, names in sorted(self.headers.items(), key=lambda h: place_in_part(h[0])):
                if part_of(header) is None or part_of(header)[0] != key or not names:
                    continue
                body.append(f"<h2>#include &lt;{header}&gt;</h2>")
                for same in together(names):
                    body.append(self.entry(same))
                    rows.append(f'<tr><td><a href="{key}.html#{same[0].name}"><code>'
                                f'{", ".join(dict.fromkeys(x.name for x in same))}</code></a></td><td>{self.words(summary(same[0].doc))}</td></tr>')
            (folder / f"{key}.html").write_text(self.page(title, "".join(body)))
            index.append(f"<h2>{title}</h2><table>{''.join(rows)}</table>")
        (folder / "index.html").write_text(self.page("API reference", "".join(index) + FILTER))


def part_of(header):
    for part in PARTS:
        if any(rules.short(header).startswith(p) for p in part[3]):
            return part
    return None


def place_in_part(header):
    part = part_of(header)
    return next((i for i, p in enumerate(part[3]) if rules.short(header).startswith(p)), 0) if part else 0


def hash_of(code):
    return zlib.crc32(code.encode())


def together(names):
    groups = []
    for n in names:
        if groups and n.shared:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups


def summary(doc):
    paragraphs, tagged = split_doc(doc)
    text = " ".join(l.strip() for l in paragraphs[0]) if paragraphs else tagged[0][1] if tagged else ""
    found = re.match(r"(.*?\.)(?: [A-Z`]|$)", text)
    return found[1] if found else text


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
    print(f"{sys.argv[1]}/index.html")
