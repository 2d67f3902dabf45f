"""The pages of the reference, in Markdown: a section for every public name, so that each has an anchor and is found."""
import re
import textwrap

import rules
from headers import split_doc
from parts import PARTS, part_of, place_in_part, read_glossary, read_snippets

INDEX = """# API reference

Every public name of namespace `loraga`. What the namespaces `detail`, `format`, `gpu`, `eigen` and `reductions` within it hold
is not for users and may change.

`#include <loraga/cpu.hpp>` has every policy and the CPU backend, `<loraga/cuda.cuh>` every policy and the CUDA backend.
`<loraga/svd/eigen.hpp>` and the headers of `loraga/io` are included one by one. Functors of your own that shall run on a GPU are
marked `LORAGA_HD`.

Letters are the same everywhere: W is out x in, X in x tokens, Y out x tokens, A r x in, B out x r, G out x in; derivatives are
d + letter; xT is the transposed of x. Snippets leave out their #include (it stands above them) and `using namespace loraga;`;
the tests compile and run all of them.
"""


def slug(title, taken):
    """The anchor that a heading gets (GitHub's rule), and remembers it: the second of a name ends with -1."""
    plain = first = re.sub(r"[^\w\- ]", "", title.strip().lower().replace(" ", "-"))
    count = 0
    while plain in taken:
        count += 1
        plain = f"{first}-{count}"
    taken.add(plain)
    return plain


def escaped(text):
    """Words that mean themselves in Markdown."""
    text = re.sub(r"([\\`*_{}\[\]<>#|~^$])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", re.sub(r"^([-+=:%])", r"\\\1", text))


def fenced(code, language="cpp"):
    return f"```{language}\n{code}\n```\n\n"


def together(names):
    """Names that share a docstring are one section."""
    groups = []
    for n in names:
        if groups and n.shared:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups


def title_of(same):
    return ", ".join(dict.fromkeys(x.name for x in same))


def summary(doc):
    paragraphs, tagged = split_doc(doc)
    text = " ".join(l.strip() for l in paragraphs[0]) if paragraphs else tagged[0][1] if tagged else ""
    found = re.match(r"(.*?\.)(?: [A-Z`]|$)", text)
    return found[1] if found else text


class Pages:
    def __init__(self, headers):
        self.explain = rules.Explanations(headers, read_glossary())
        self.shown, _ = read_snippets()
        self.places, self.header_places, self.sections = {}, {}, {}
        for key, title, _, _ in PARTS:
            taken = set()
            slug(title, taken)
            self.sections[key] = []
            for header, names in sorted(headers.items(), key=lambda h: place_in_part(h[0])):
                if part_of(header) is None or part_of(header)[0] != key or not names:
                    continue
                self.header_places[header] = f"{key}.md#{slug(f'#include <{header}>', taken)}"
                groups = [(same, f"{key}.md#{slug(title_of(same), taken)}") for same in together(names)]
                self.sections[key].append((header, groups))
                for same, place in groups:
                    for n in same:
                        self.places.setdefault(n.name, place)

    def page_of_header(self, path):
        """The place of a header or a folder of headers, seen from above the reference."""
        if path in self.header_places:
            return "api/" + self.header_places[path]
        part = part_of(path + "/") if path != "loraga" else None
        return f"api/{part[0]}.md" if part else "api/index.md"

    def link(self, name):
        return f"[`{name}`]({self.places[name]})" if name in self.places else f"`{name}`"

    def words(self, text):
        """Text as Markdown, with the names of the reference as links."""
        pieces = re.split(r"(`[^`]*`|https?://[^\s,;)]*[^\s,;).]|arXiv:\d{4}\.\d{5}|\b[A-Za-z]\w*_\w+\b|\b[A-Z][a-z]+[A-Z]\w+\b)", text)
        out = []
        for p in pieces:
            word = p.strip("`")
            if word and (p.startswith("`") or word in self.places):
                out.append(self.link(word))
            elif p.startswith("arXiv:"):
                out.append(f"[{p}](https://arxiv.org/abs/{p[6:]})")
            elif p.startswith("http"):
                out.append(f"<{p}>")
            else:
                out.append(escaped(p))
        return "".join(out)

    def doc(self, lines):
        paragraphs, tagged = split_doc(lines)
        out = [fenced(textwrap.dedent("\n".join(p)), "text") if p[0].startswith("  ") else
               self.words(" ".join(l.strip() for l in p)) + "\n\n" for p in paragraphs]
        out += [f"* **{t}** {self.words(x)}\n" for t, x in tagged]
        return "".join(out) + ("\n" if tagged else "")

    def member(self, m):
        if m.doc:
            return self.doc(m.doc)
        text, how = self.explain.text(m) or ("", "")
        if how in ("concept", "base"):
            return f"as {self.link(text)} asks" if how == "concept" else f"as in {self.link(text)}"
        return self.words(text) or "see above"

    def members(self, n):
        """A definition list: each declaration, and what it is."""
        out, declared = [], {}
        for m in n.members:  # names of one declaration are one entry
            if m.kind == "field" and declared.setdefault((m.line, m.signature), m) is not m and m.doc:
                continue
            text = m.name if m.kind == "enumerator" else m.signature
            if m.kind == "class":
                text = "struct " + m.name
            inner = self.member(m).strip() + ("\n\n" + self.members(m) if m.kind in ("class", "enum") else "")
            out.append(f"`{text.rstrip(';')}`\n: {textwrap.indent(inner.strip(), '  ')[2:]}\n\n")
        return "".join(out)

    def snippets(self, name, on_page):
        out = []
        for title, code in self.shown.get(name, []):
            if (title, code) in on_page:  # once on a page
                out.append(f"Used in `{title}`, [under {on_page[title, code]}]({self.places[on_page[title, code]]}).\n\n")
                continue
            on_page[title, code] = name
            mark = " open" if "snippets" in title else ""
            out.append(f"<details{mark}><summary>{title}</summary>\n\n{fenced(code)}</details>\n\n")
        return "".join(out)

    def entry(self, same, on_page):
        """One section for names that share a docstring."""
        n = same[0]
        if n.kind == "concept":
            code = "\n\n".join(x.signature for x in same)
        else:
            code = "\n".join(x.signature + (";" if x.kind in ("class", "enum") else "") for x in same)
        out = [f"### {title_of(same)}\n\n", fenced(code), self.doc(n.doc)]
        for x in same:
            out += [self.members(x), self.snippets(x.name, on_page)]
        return "".join(out)

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        index = [INDEX]
        for key, title, what, _ in PARTS:
            body, rows, on_page = [f"# {title}\n\n{what}\n\n"], [], {}
            for header, groups in self.sections[key]:
                body.append(f"## #include <{header}>\n\n".replace("<", "\\<"))
                for same, place in groups:
                    body.append(self.entry(same, on_page))
                    rows.append(f"* [`{title_of(same)}`]({place}): {self.words(summary(same[0].doc))}\n")
            (folder / f"{key}.md").write_text("".join(body))
            index.append(f"\n## {title}\n\n{''.join(rows)}")
        order = "\n".join(p[0] for p in PARTS)
        (folder / "index.md").write_text("".join(index) + f"\n```{{toctree}}\n:hidden:\n\n{order}\n```\n")
