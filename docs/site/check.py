#!/usr/bin/env python3
"""What is wrong with the built site, and with the C++ that documents show: check.py SITE

Links and anchors lead somewhere, pictures are there, nothing is asked of another host, and every block of C++ in a
document is compiled: extracted by the tests (<!-- snippet: NAME -->), an excerpt of a compiled file
(<!-- excerpt: FILE -->), or named in docs/site/uncompiled.txt.
"""
import posixpath
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("source", "src"), ("iframe", "src"), ("video", "src"),
          ("audio", "src"), ("object", "data"), ("embed", "src"), ("input", "src"), ("use", "href")}
# Addresses in scripts that are no requests: names of formats, and words in comments or of messages.
NO_REQUESTS = re.compile(r"https?://(www\.w3\.org/|example\.|localhost\b)")
COMPILED = ("examples/", "tests/", "docs/snippets/", "bench/")


class Page(HTMLParser):
    """The anchors of one page, where its links lead, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loads, self.styles, self.scripts = set(), [], [], [], []
        self.in_style = self.in_script = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[k] for k in ("id", "name") if found.get(k)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        self.loads += [value for key, value in attributes if (tag, key) in LOADED and value]
        if found.get("srcset"):
            self.loads += [part.split()[0] for part in found["srcset"].split(",")]
        if found.get("style"):
            self.styles.append(found["style"])
        self.in_style, self.in_script = tag == "style", tag == "script"

    def handle_endtag(self, tag):
        self.in_style = self.in_script = False

    def handle_data(self, data):
        if self.in_style or self.in_script:
            (self.styles if self.in_style else self.scripts).append(data)


def addresses_in(text):
    """What a style sheet or script may load: url(...), @import, and whole addresses within quotes."""
    found = re.findall(r"url\(\s*['\"]?([^'\")]+)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)
    return [a for a in found if not a.startswith(("data:", "#"))]


def hosts_in_script(text):
    code = re.sub(r"/\*.*?\*/|(?<![:\w\"'])//[^\n]*", "", text, flags=re.S)
    return [a for a in re.findall(r"[\"'`](https?://[^\"'`\s]+)", code) if not NO_REQUESTS.match(a)]


def check_site(site):
    """Lines of what is wrong with the pages below a folder."""
    files = {p.relative_to(site).as_posix() for p in site.rglob("*") if p.is_file()}
    pages = {name: Page((site / name).read_text()) for name in sorted(files) if name.endswith(".html")}
    wrong = []

    def goal(name, address):
        """The file of the site that an address leads to, there or not; None for another host."""
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            return None
        if parts.path.startswith("/"):
            return parts.path  # would leave a site that lies below another path
        return posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path))) if parts.path else name

    for name, page in pages.items():
        for address in dict.fromkeys(page.links):
            target = goal(name, address)
            anchor = unquote(urlsplit(address).fragment)
            if target is not None and target not in files:
                wrong.append(f"{name}: links to {address}, which is not there")
            elif target in pages and anchor and anchor not in pages[target].anchors:
                wrong.append(f"{name}: links to {address}, whose anchor is not there")
        for address in dict.fromkeys(page.loads + [a for text in page.styles for a in addresses_in(text)]):
            target = goal(name, address)
            if target is None and not address.startswith("data:"):
                wrong.append(f"{name}: loads {address} from another host")
            elif target is not None and target not in files:
                wrong.append(f"{name}: loads {address}, which is not there")
        wrong += [f"{name}: may ask {a} from a script" for text in page.scripts for a in hosts_in_script(text)]
    for name in sorted(files):
        if name.endswith(".css"):
            wrong += [f"{name}: loads {a}" for a in addresses_in((site / name).read_text()) if goal(name, a) not in files]
        elif name.endswith(".js"):
            wrong += [f"{name}: may ask {a}" for a in hosts_in_script((site / name).read_text())]
    return wrong


def blocks_of(text):
    """(line, mark, code) of a document's blocks of C++; mark is the comment above, ("snippet" or "excerpt", name)."""
    for found in re.finditer(r"(?:<!-- (snippet|excerpt): (\S+) -->\n)?^```(?:cpp|c\+\+|cuda|cu|c)\n(.*?)^```", text, re.S | re.M):
        yield text.count("\n", 0, found.start()) + 1, found.group(1, 2) if found[1] else None, found[3]


def text_of(root, *patterns):
    """What the files of tests/ that match say, one after another."""
    return "\n".join(p.read_text() for pattern in patterns for p in sorted((root / "tests").rglob(pattern)))


def is_compiled(name, builds, sources):
    """Whether CMake makes a program docs_STEM of a snippet, by its name or in a foreach, or a test includes it."""
    stem = re.escape(Path(name).stem)
    return re.search(rf"add_executable\(docs_{stem}\s|foreach\(name [^)]*\b{stem}\b(?!-)", builds) is not None or \
        f'#include "{name}"' in sources


def is_excerpt(code, whole):
    """Whether the lines of code, without their indentation, stand in a file in this order."""
    rest = iter([line.strip() for line in whole.splitlines()])
    return all(line.strip() in rest for line in code.splitlines() if line.strip() and line.strip() != "...")


def check_snippets(root):
    """Lines of what is wrong with the documents' C++: what nothing compiles, and exceptions that are none."""
    wrong = []
    builds, sources = text_of(root, "CMakeLists.txt", "*.sh"), text_of(root, "*.cpp", "*.hpp", "*.cu", "*.cuh")
    exceptions = {}
    for line in (root / "docs/site/uncompiled.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            file, _, first = line.partition(": ")
            exceptions[file, first] = False
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        file = path.relative_to(root).as_posix()
        for line, mark, code in blocks_of(path.read_text()):
            first = code.strip().splitlines()[0]
            if mark is None and (file, first) in exceptions:
                exceptions[file, first] = True
            elif mark is None:
                wrong.append(f"{file}:{line}: C++ that nothing compiles; mark it as a snippet or an excerpt")
            elif mark[0] == "snippet":
                if not re.search(rf"[/ ]{re.escape(file)}[ )\n\"]", builds):
                    wrong.append(f"{file}:{line}: marked as a snippet, but nothing in tests extracts this document")
                elif not is_compiled(mark[1], builds, sources):
                    wrong.append(f"{file}:{line}: the snippet {mark[1]} is extracted, but nothing in tests compiles it")
            elif mark[0] == "excerpt":
                source = root / mark[1]
                if not mark[1].startswith(COMPILED) or not source.is_file():
                    wrong.append(f"{file}:{line}: an excerpt of {mark[1]}, which is no compiled file")
                elif not is_excerpt(code, source.read_text()):
                    wrong.append(f"{file}:{line}: is not in {mark[1]} as it stands here")
    wrong += [f"docs/site/uncompiled.txt: {file} has no block that begins with: {first}" for (file, first), used in exceptions.items() if not used]
    return wrong


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    problems = check_site(Path(sys.argv[1])) + check_snippets(ROOT)
    print("\n".join(problems) or "every link leads somewhere, no other host is asked, all C++ is compiled")
    sys.exit(1 if problems else 0)
