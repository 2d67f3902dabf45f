"""What the reference demands of the headers: every public name is documented, and what users choose from is shown."""
import re

from headers import split_doc

# Members that a concept asks for are explained by it, in the classes that meet it.
CONCEPTS = {
    "scaling.hpp": ["Scaling"], "svd/": ["SvdMethod"], "gradient/": ["GradientAccumulator", "ReadableGradient"],
    "init/": ["Initialiser", "Need"], "start/": ["Anchor", "Need", "Source"], "adapter/": ["Adapter"],
    "optim/": ["Schedule"],
    "backend/": ["Backend", "ForkableBackend"], "distributed/": ["Communicator", "GradientAccumulator"],
}
# What a user chooses from: each of these needs a snippet.
CHOICES = re.compile(r"_(init|scaling|anchor|schedule|gradient|svd)$")
CHOICE_FOLDERS = ("svd/", "adapter/", "gradient/", "optim/")
# Named like a choice, but a base of some, or a need.
NO_CHOICES = ("low_rank_factors", "lora_passes", "folded_lora", "whole_gradient")


def short(header):
    return header.removeprefix("loraga/")


def walk(names):
    for n in names:
        yield n
        yield from walk(n.members)


def concept_members(all_names):
    """Names that each concept's requirements call, or its docstring lists in lines of their own: {concept: {member}}."""
    found = {}
    for n in all_names:
        if n.kind == "concept":
            code = re.sub(r"//[^\n]*", "", n.signature)
            listed = {m[1] for line in n.doc if (m := re.match(r"  (\w+)", line))}
            found[n.name] = set(re.findall(r"(?:\.|::)(?:template )?(\w+)", code)) - {"template"} | listed
    return found


class Explanations:
    """Where a name is explained: its docstring, the glossary, the concept that its class meets, its base."""

    def __init__(self, headers, glossary):
        self.glossary = glossary
        self.top = {}
        for names in headers.values():
            for n in names:
                self.top.setdefault(n.name, n)
        self.concepts = concept_members([n for names in headers.values() for n in names])

    def concept_of(self, n):
        for where, concepts in CONCEPTS.items():
            if short(n.header).startswith(where):
                for c in concepts:
                    if n.name in self.concepts.get(c, ()):
                        return c
        return None

    def base_of(self, n):
        owner = self.top.get(n.owner.split("::")[0])
        for base in owner.bases if owner and "::" not in n.owner else []:
            below = self.top.get(base) if base != n.owner else None
            for m in below.members if below else []:
                if m.name == n.name and (m.doc or self.base_of(m)):
                    return base
        return None

    def text(self, n):
        """(words, how) of a name without a docstring of its own; None if nothing explains it."""
        if n.kind == "constructor" or n.name.startswith("operator"):
            return "", "class"  # what a class is made of and how it is used is in the class's docstring
        if not n.owner:
            return None
        if n.kind == "enumerator":
            owner = self.top.get(n.owner)
            named = owner is not None and any(f"`{n.name}`" in line for line in owner.doc)
            return ("", "class") if named else None
        if c := self.concept_of(n):
            return c, "concept"
        if n.name in self.glossary:
            return self.glossary[n.name], "glossary"
        if b := self.base_of(n):
            return b, "base"
        return None


def undocumented(headers, explanations):
    for names in headers.values():
        for n in walk(names):
            if not n.doc and explanations.text(n) is None:
                yield n


def broken_tags(headers, tags):
    """A tagged line that a formatter has pulled into the line before."""
    inside = re.compile(r"(?<! ) (%s)  +\S|[^.]\. (%s) [a-z0-9]" % ("|".join(tags), "|".join(tags)))
    for names in headers.values():
        for n in walk(names):
            if not n.shared:
                for line in n.doc:
                    if inside.search(" " + line.lstrip()) and not re.match(r"(%s)  " % "|".join(tags), line):
                        yield n, line


def choices(headers):
    """Names that need a snippet."""
    for header, names in headers.items():
        for n in names:
            stem = header.rsplit("/", 1)[-1].split(".")[0]
            named = n.kind == "class" and (CHOICES.search(n.name) or
                                           (short(header).startswith(CHOICE_FOLDERS) and n.name == stem))
            if n.kind == "concept" and short(header) == "concepts.hpp":
                yield n
            elif named and n.name not in NO_CHOICES:
                yield n


def without_cost(headers):
    """Choices that do work and do not say what it costs."""
    for n in choices(headers):
        works = short(n.header).startswith(("svd/", "gradient/", "init/", "adapter/", "start/anchor.hpp"))
        if n.kind == "class" and works and not n.name.endswith("_schedule") and not {"cost", "memory"} & {tag for tag, _ in split_doc(n.doc)[1]}:
            yield n
