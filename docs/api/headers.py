"""Reads the public names of loraga's headers with their docstrings.

It is no C++ parser. It relies on the house's form: clang-format's layout (a body's brace has a space before it, a brace
initialiser has none), `///` before a name, `///<` behind it, and everything public in namespace loraga itself.
"""
import re
from dataclasses import dataclass, field
from pathlib import Path

TAGS = ("math", "shapes", "units", "errors", "cost", "memory", "loss", "returns", "source")
INTERNAL = ("detail", "format", "gpu", "eigen", "reductions")  # namespaces that hold what users never call


@dataclass
class Name:
    """One public name: what it is, how it is declared, and what its docstring says."""
    kind: str  # class, function, concept, enum, enumerator, alias, variable, field, constructor
    name: str
    signature: str
    header: str
    line: int
    doc: list = field(default_factory=list)  # lines without their slashes
    members: list = field(default_factory=list)
    bases: list = field(default_factory=list)
    owner: str = ""
    shared: bool = False  # the docstring is that of the name above
    last_line: int = 0

    @property
    def full(self):
        return f"{self.owner}::{self.name}" if self.owner else self.name


def split_doc(lines):
    """A docstring's prose as paragraphs, and its tagged lines as (tag, text)."""
    prose, tagged, into = [], [], None
    for line in lines:
        found = re.match(r"(%s)  +(.*)" % "|".join(TAGS), line)
        if found:
            into = [found[1], found[2]]
            tagged.append(into)
            continue
        if into is not None and re.match(r" {2,}\S", line):
            into[1] += " " + line.strip()
            continue
        into = None
        # "... .  errors  shape_error" within a line of prose
        found = re.match(r"(.*?[^ ])  +(%s) +(.*)" % "|".join(TAGS), line)
        if found:
            prose.append(found[1])
            into = [found[2], found[3]]
            tagged.append(into)
        else:
            prose.append(line)
    for entry in tagged:  # a second tag within a tagged line
        while found := re.match(r"(.*?[^ ])  +(%s) +(.*)" % "|".join(TAGS), entry[1]):
            entry[1] = found[1]
            entry = [found[2], found[3]]
            tagged.append(entry)
    paragraphs, current = [], []
    for line in prose + [""]:
        code = re.match(r"  +\S", line) is not None  # lines of code are a paragraph of their own
        if current and code != current[0].startswith("  "):
            paragraphs.append(current)
            current = []
        if code:
            current.append(line)
        elif line.strip():
            current.append(line)
        elif current:
            paragraphs.append(current)
            current = []
    return paragraphs, [tuple(t) for t in tagged]


class Reader:
    def __init__(self, path, header):
        self.text = path.read_text()
        self.header = header
        self.at = 0
        self.names = []

    def line_of(self, at):
        return self.text.count("\n", 0, at) + 1

    def skip_string(self, i):
        quote = self.text[i]
        if quote == "'" and i > 0 and self.text[i - 1].isalnum():  # 100'000
            return i + 1
        i += 1
        while self.text[i] != quote:
            i += 2 if self.text[i] == "\\" else 1
        return i + 1

    def skip_comment(self, i):
        return self.text.index("\n", i)

    def matching(self, i):
        """Behind the bracket that closes the one at i."""
        close = {"(": ")", "{": "}", "[": "]"}
        stack = []
        while True:
            c = self.text[i]
            if c in "\"'":
                i = self.skip_string(i)
                continue
            if self.text.startswith("//", i):
                i = self.skip_comment(i)
                continue
            if c in close:
                stack.append(close[c])
            elif stack and c == stack[-1]:
                stack.pop()
                if not stack:
                    return i + 1
            i += 1

    def declaration(self, i):
        """From i: (signature, position of the body's brace or None, position behind the declaration)."""
        start = i
        while True:
            c = self.text[i]
            if c in "\"'":
                i = self.skip_string(i)
            elif self.text.startswith("//", i):
                i = self.skip_comment(i)
            elif c in "([":
                i = self.matching(i)
            elif c == ";":
                return self.text[start:i], None, i + 1
            elif c == "{":
                before = self.text[start:i]
                last = before.rstrip()
                initialiser = before == last or last.endswith("=") or re.search(r"\brequires( \([^()]*\))?$", last) \
                    or re.search(r"\brequires\(.*\)$", last[last.rfind("requires"):] if "requires" in last else "") \
                    or re.match(r"(template <.*>\s*)?concept\b", before, re.S)
                if initialiser:
                    i = self.matching(i)
                else:
                    return last, i, self.matching(i)
            else:
                i += 1

    def trailing_doc(self, i):
        """The text of ///< behind position i, and where it ends."""
        end = self.text.index("\n", i)
        found = re.match(r"[ ,;]*///< ?(.*)", self.text[i:end])
        if not found:
            return [], i
        doc = [found[1]]
        while found := re.match(r"\n\s*///< ?(.*)", self.text[end:]):
            doc.append(found[1])
            end = end + found.end()
        return doc, end

    def scope(self, end, owner, public, into):
        doc, doc_end = [], None
        while self.at < end:
            c = self.text[self.at]
            if c.isspace():
                if self.text.startswith("\n\n", self.at):
                    doc = []
                self.at += 1
            elif self.text.startswith("///", self.at):
                stop = self.skip_comment(self.at)
                doc.append(re.sub(r"^///<? ?", "", self.text[self.at:stop]).rstrip())
                self.at = stop
            elif self.text.startswith("//", self.at):
                self.at = self.skip_comment(self.at)
            elif c == "#":
                stop = self.skip_comment(self.at)
                while self.text[stop - 1] == "\\":
                    stop = self.skip_comment(stop + 1)
                self.at = stop
            elif c in ";}":
                self.at += 1
            elif label := re.match(r"(public|private|protected):", self.text[self.at:]):
                public = label[1] == "public"
                self.at += label.end()
                doc = []
            else:
                self.one(doc, owner, public, into)
                doc = []

    def one(self, doc, owner, public, into):
        start = self.at
        if space := re.match(r"(?:inline )?namespace ([\w:]*) ?\{", self.text[start:]):
            brace = start + space.end() - 1
            parts = space[1].split("::")
            if any(p in INTERNAL for p in parts) or not parts[-1]:
                self.at = self.matching(brace)
            else:
                stop = self.matching(brace) - 1
                self.at = brace + 1
                self.scope(stop, owner, public, into)
                self.at = stop + 1
            return
        if call := re.match(r"[A-Z][A-Z0-9_]+\(", self.text[start:]):  # a macro's, without a semicolon
            self.at = self.matching(start + call.end() - 1)
            return
        signature, body, stop = self.declaration(start)
        self.at = stop
        bare = re.sub(r"\s+", " ", re.sub(r"//[^\n]*", "", signature)).strip()
        bare = bare.replace("LORAGA_HD ", "").replace("[[nodiscard]] ", "")
        head = strip_template(bare)
        made = []
        if re.match(r"(\w+)\(.*\) -> \1\b", head):
            return  # a deduction guide, which the class's docstring shows in use
        if re.match(r"(static_assert|friend|using namespace|extern|namespace)\b", head):
            return
        if re.match(r"using (typename )?\w[\w:<>, ]*::\w+$", head) or "= delete" in head or "= default" in head:
            return
        if "~" in head.split("(")[0]:
            return
        if found := re.match(r"concept (\w+)", head):
            made.append(("concept", found[1], signature.strip() + ";"))
        elif found := re.match(r"using (\w+) =", head):
            made.append(("alias", found[1], bare + ";"))
        elif found := re.match(r"enum (?:class )?(\w+)", head):
            made.append(("enum", found[1], bare))
        elif found := re.match(r"(?:struct|class) (\w+)(?: final)?(.*)$", head):
            if body is None and not found[2].startswith(" "):
                return  # declared ahead
            if found[2].startswith("<"):
                return  # a specialisation
            made.append(("class", found[1], bare))
        elif name := function_name(head):
            if re.search(r"\w::" + re.escape(name) + r"\(", head) and not owner:
                return  # a member's definition, out of its class
            made.append(("constructor" if owner and name == owner.split("::")[-1] else "function", name, function_text(bare)))
        else:
            for name in variable_names(head):
                made.append(("field" if owner else "variable", name, bare + ";"))
        behind, self.at = ([], stop) if made and made[0][0] == "class" else self.trailing_doc(stop)
        if not public:
            return
        for kind, name, text in made:
            item = Name(kind, name, text, self.header, self.line_of(start), list(doc) + behind, owner=owner,
                        last_line=self.line_of(stop - 1))
            if kind == "class":
                after, behind_at = self.trailing_doc(stop)
                if bases := re.search(r"\b(?:struct|class) \w+(?: final)? : (.*)$", head):
                    item.bases = re.findall(r"(\w+)(?:<|,|$)", bases[1])
                self.at = body + 1
                self.scope(stop - 1, item.full, re.match(r"struct", head) is not None, item.members)
                self.at = behind_at
                item.doc += after
            elif kind == "enum":
                self.enumerators(body, stop, item)
            into.append(item)

    def enumerators(self, body, stop, item):
        ahead = []
        for line_text in self.text[body + 1:stop - 1].split("\n"):
            text, _, comment = line_text.partition("//")
            if not text.strip():
                if comment.startswith("/"):
                    behind = re.sub(r"^/<? ?", "", comment).strip()
                    if comment.startswith("/<") and item.members:
                        item.members[-1].doc.append(behind)
                    elif not comment.startswith("/<"):
                        ahead = [behind]
                continue
            names = re.findall(r"(\w+)(?:\s*=\s*[^,]+)?\s*(?:,|$)", text.strip())
            for name in names:  # a line above counts for all up to the next comment
                item.members.append(Name("enumerator", name, name, self.header, self.line_of(body), ahead, owner=item.full))
            if comment.startswith("/<"):
                item.members[-1].doc = [comment[2:].strip()]


def strip_template(text):
    """A declaration without `template <...>`, `requires ...` before it, and specifiers."""
    while text.startswith("template"):
        i, depth = text.index("<"), 0
        while True:
            depth += {"<": 1, ">": -1}.get(text[i], 0)
            i += 1
            if depth == 0:
                break
        text = text[i:].strip()
    if text.startswith("requires"):  # the clause ends before the name that is followed by a parenthesis, or its type
        rest = re.sub(r"^requires ?\([^()]*\) ?\{[^{}]*\} ?", "", text[len("requires"):].strip())
        clause = re.match(r"((?:!?[\w:]+(?:<(?:[^<>]|<[^<>]*>)*>)?(?:::\w+)?|\((?:[^()]|\([^()]*\))*\))(?: (?:&&|\|\|) )?)+ ", rest)
        text = rest[clause.end():] if clause and not text.startswith("requires requires") else rest
    while found := re.match(r"(inline|constexpr|static|explicit|virtual|mutable|\[\[\w+\]\]) ", text):
        text = text[found.end():]
    return text


def function_name(head):
    """The name before the first parenthesis outside angle brackets, unless an = comes before it."""
    if found := re.search(r"\boperator ?(\(\)|\[\]|[^\s(]+(?: const)?\*?)\s*\(", head):
        return "operator" + (found[1] if not found[1][0].isalpha() else " " + found[1])
    head = re.sub(r"\b(decltype|alignas)\([^()]*\)", r"\1", head)
    depth = 0
    for i, c in enumerate(head):
        if c == "<":
            depth += 1
        elif c == ">" and head[i - 1] != "-":
            depth -= 1
        elif c == "=" and depth == 0:
            return None
        elif c == "(" and depth == 0:
            found = re.search(r"(\w+)$", head[:i])
            return found[1] if found and found[1] not in ("decltype", "alignas") else None
    return None


def function_text(bare):
    """A function's declaration without a constructor's initialisers."""
    depth = angle = 0
    for i, c in enumerate(bare):
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == ":" and depth == 0 and bare[i - 2:i] == ") " and bare[i + 1:i + 2] == " ":
            return bare[:i].rstrip() + ";"
    return bare + ";"


def variable_names(head):
    head = re.sub(r'"[^"]*"', '""', head)
    parts, depth, current = [], 0, ""
    for c in head:
        depth += {"<": 1, ">": -1, "(": 1, ")": -1, "{": 1, "}": -1, "[": 1, "]": -1}.get(c, 0)
        if c == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += c
    names = []
    for part in parts + [current]:
        part = re.split(r"\s*=|\{|\[", part)[0].strip()
        if found := re.search(r"(\w+)$", part):
            names.append(found[1])
    return names


def read_headers(include):
    """All public names, by header."""
    headers = {}
    for path in sorted(p for p in include.rglob("*") if p.suffix in (".hpp", ".cuh")):
        name = path.relative_to(include).as_posix()
        reader = Reader(path, name)
        reader.scope(len(reader.text), "", True, reader.names)
        share(reader.names)
        headers[name] = reader.names
    return headers


def share(names):
    """A name without a docstring right below another one, without a blank line, has that one's; so have overloads."""
    before = None
    for n in names:
        if not n.doc and before is not None and before.doc:
            near = n.line == before.last_line + 1 and n.kind == before.kind and not n.owner
            if near or (n.name == before.name and n.kind == before.kind):
                n.doc, n.shared = before.doc, True
        before = n
        if n.kind == "class":
            share(n.members)
