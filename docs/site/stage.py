#!/usr/bin/env python3
"""Lays out what Sphinx reads: stage.py FOLDER [--strict]

The documents of the repository, with links between files turned into links between pages; the pages of the API
reference; a page for each source file that a document links to. Documents stay as they are: links are resolved as
in the repository. What leads nowhere is named and becomes plain words; with --strict it is an error.
"""
import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs/api"))
import generate  # noqa: E402
from headers import read_headers  # noqa: E402
from nav import pages  # noqa: E402

# A fenced block, a link whose words may be code, or code: only links are looked at.
TOKEN = re.compile(r"(?P<fence>^```.*?^```[ \t]*$)|(?P<mark>!?)\[(?P<words>(?:[^\[\]`]|`[^`]*`)*)\]\((?P<target>[^()\s]+)\)|`+[^`]+`+",
                   re.S | re.M)
LANDING = "docs/site/index.md"
FIRST_PAGES = {"README.md": "index.md", LANDING: "index.md", "CHANGELOG.md": "changelog.md"}
LEXERS = {".cpp": "cpp", ".hpp": "cpp", ".cu": "cpp", ".cuh": "cpp", ".py": "python", ".sh": "bash", ".json": "json",
          ".cmake": "cmake", ".txt": "text", ".gp": "text", "": "text"}
LARGEST_SOURCE = 200_000  # bytes of a file that is shown; larger ones are given to be downloaded


class Stage:
    """The pages of one site below `folder`; `wrong` has a line for each link that leads nowhere."""

    def __init__(self, root, folder, headers):
        self.root, self.folder, self.wrong = root, folder, []
        self.reference = generate.Pages(headers)
        self.sources = {}  # repository path: site path

    def page_of(self, path):
        """Where the site has a file or folder of the repository."""
        if path in FIRST_PAGES:
            return FIRST_PAGES[path]
        if re.fullmatch(r"docs/[^/]+\.md", path):
            return path.removeprefix("docs/")
        if path == "include" or path.startswith("include/"):
            return self.reference.page_of_header(path.removeprefix("include/").rstrip("/"))
        full = self.root / path
        if full.suffix in (".png", ".svg", ".jpg") or full.is_file() and full.stat().st_size > LARGEST_SOURCE:
            self.write_copy(path)
            return "files/" + path
        return self.source_page(path)

    def write(self, name, text):
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def write_copy(self, path):
        target = self.folder / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / path, target)

    def source_page(self, path):
        """A page that shows a source file, or lists a folder's."""
        path = path.rstrip("/")
        if path in self.sources:
            return self.sources[path]
        full = self.root / path
        self.sources[path] = page = f"source/{path}/index.md" if full.is_dir() else f"source/{path}.md"
        text = f"---\norphan: true\nnosearch: true\n---\n\n# `{path}`\n\n"
        if full.is_dir():
            shown = [p for p in sorted(full.iterdir()) if p.is_file() and p.suffix in LEXERS or p.suffix == ".md"]
            text += "".join(f"* [`{p.name}`]({relative(self.page_of(f'{path}/{p.name}'), page)})\n" for p in shown)
        elif full.suffix == ".md":
            text = "---\norphan: true\nnosearch: true\n---\n\n" + self.linked(full.read_text(), path, page)
        else:
            text += f"````{LEXERS.get(full.suffix, 'text')}\n{full.read_text().rstrip()}\n````\n"
        self.write(page, text)
        return page

    def linked(self, text, path, page):
        """A document's text with links for its page."""
        def there(found):
            target = found["target"]
            if not target or re.match(r"[a-z]+:|#", target):
                return found[0]
            file, mark, anchor = target.partition("#")
            goal = os.path.normpath(os.path.join(os.path.dirname(path), file))
            if goal.startswith("..") or not (self.root / goal).exists():
                self.wrong.append(f"{path}: links to {target}, which is not there")
                return found["words"]
            at = self.page_of(goal)
            words = found["words"]
            if goal.endswith(".md") and words in (file, os.path.basename(file), goal):  # a file's name means its page
                words = title_of((self.root / goal).read_text())
            return f"{found['mark']}[{words}]({relative(at, page)}{'' if '#' in at else mark + anchor})"
        return TOKEN.sub(there, text)

    def document(self, path):
        page = self.page_of(path)
        self.write(page, self.linked((self.root / path).read_text(), path, page))

    def landing(self, groups):
        """The first page: its text, README's program, where to go, and the order of all pages."""
        text = self.linked((self.root / LANDING).read_text(), LANDING, "index.md")
        program = re.search(r"<!-- snippet: readme.cpp -->\n(```cpp\n.*?^```)", (self.root / "README.md").read_text(), re.S | re.M)
        text = text.replace("<!-- README's program -->", program[1])
        lists = []
        for title, group in groups:
            lists.append(f"**{title}**\n\n")
            for file, what in group:
                name = "API reference" if file == "api" else title_of((self.root / file).read_text())
                lists.append(f"* [{name}]({self.page_or_api(file)}){': ' + what if what else ''}\n")
            lists.append("\n")
        text = text.replace("<!-- where to go -->", "".join(lists))
        for title, group in groups:
            files = "".join(self.page_or_api(f).removesuffix(".md") + "\n" for f, _ in group)
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{files}```\n"
        self.write("index.md", text)

    def page_or_api(self, file):
        return "api/index.md" if file == "api" else self.page_of(file)


def title_of(text):
    return re.search(r"^# (.+)$", text, re.M)[1]


def relative(page, here):
    """The way from page `here` to page, both of the site; an anchor is kept."""
    return os.path.relpath(page, os.path.dirname(here) or ".")


def stage(root, folder):
    """Writes all pages; what is wrong with the documents' links, one line each."""
    shutil.rmtree(folder, ignore_errors=True)
    made = Stage(root, folder, read_headers(root / "include"))
    groups = pages(root)
    for _, group in groups:
        for file, _ in group:
            if file != "api":
                made.document(file)
    made.reference.write(folder / "api")
    made.landing(groups)
    return made.wrong


if __name__ == "__main__":
    if sys.argv[2:] not in ([], ["--strict"]) or len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    problems = stage(ROOT, Path(sys.argv[1]))
    for line in problems:
        print(line, file=sys.stderr)
    sys.exit(1 if problems and "--strict" in sys.argv else 0)
