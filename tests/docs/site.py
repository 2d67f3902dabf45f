"""The documentation site's checks and its staging on small documents: each fault is seen, and nothing else is."""
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/site"))
import check
import nav
import stage

GOOD = '<html><head><link href="s/a.css" rel="stylesheet"><script src="s/a.js"></script></head><body><h1 id="top">t</h1>' \
       '<a href="sub/b.html#here">b</a><a href="#top">t</a><a href="https://arxiv.org/abs/1">x</a><img src="p.png"></body></html>'


class Temporary(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def write(self, files):
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)


class Site(Temporary):
    """check_site"""

    def wrong(self, **changed):
        files = {"a.html": GOOD, "sub/b.html": '<p id="here"><a href="../a.html">a</a></p>', "p.png": "",
                 "s/a.css": "p { background: url(../p.png) }", "s/a.js": "// see https://some.where/\nlet n = 'http://www.w3.org/2000/svg';"}
        self.write(files | {k.replace("__", "/").replace("_", "."): v for k, v in changed.items()})
        return check.check_site(self.root)

    def test_good(self):
        self.assertEqual(self.wrong(), [])

    def test_links(self):
        self.assertEqual(self.wrong(a_html=GOOD.replace("sub/b.html", "sub/c.html")), ["a.html: links to sub/c.html#here, which is not there"])
        self.assertEqual(self.wrong(a_html=GOOD.replace("#here", "#there")), ["a.html: links to sub/b.html#there, whose anchor is not there"])
        self.assertEqual(self.wrong(a_html=GOOD.replace('"#top"', '"#bottom"')), ["a.html: links to #bottom, whose anchor is not there"])
        self.assertEqual(self.wrong(a_html=GOOD.replace('"#top"', '"/a.html"')), ["a.html: links to /a.html, which is not there"])
        self.assertEqual(self.wrong(a_html=GOOD.replace('"#top"', '"../x.html"')), ["a.html: links to ../x.html, which is not there"])

    def test_pictures(self):
        self.assertEqual(self.wrong(a_html=GOOD.replace("p.png", "q.png")), ["a.html: loads q.png, which is not there"])
        self.assertEqual(self.wrong(s__a_css="p { background: url('../q.png') }"), ["s/a.css: loads ../q.png"])

    def test_other_hosts(self):
        outside = {"p.png": "https://h.org/p.png", "s/a.js": "//h.org/a.js", "s/a.css": "http://h.org/a.css"}
        for inside, address in outside.items():
            self.assertEqual(self.wrong(a_html=GOOD.replace(inside, address)), [f"a.html: loads {address} from another host"])
        styled = GOOD.replace("<body>", "<style>@import 'https://h.org/f.css';</style><body>")
        self.assertEqual(self.wrong(a_html=styled), ["a.html: loads https://h.org/f.css from another host"])
        self.assertEqual(self.wrong(s__a_css="@font-face { src: url(https://h.org/f.woff2) }"), ["s/a.css: loads https://h.org/f.woff2"])
        self.write({"s/a.css": ""})
        self.assertEqual(self.wrong(s__a_js="fetch('https://h.org/index.json')"), ["s/a.js: may ask https://h.org/index.json"])


class Snippets(Temporary):
    """check_snippets"""

    def wrong(self, document, listed="# none\n", cmake="set(documents ${R}/docs/a.md)\nadd_executable(docs_a a.cpp)\n"):
        self.write({"README.md": "# R\n", "docs/a.md": document, "docs/site/uncompiled.txt": listed, "tests/CMakeLists.txt": cmake,
                    "examples/e.cpp": "int main() {\n  one();\n  two();  // why\n  three();\n}\n", "include/e.hpp": "one();\n"})
        return check.check_snippets(self.root)

    def test_compiled(self):
        self.assertEqual(self.wrong("```bash\nls\n```\n<!-- snippet: a.cpp -->\n```cpp\nint x;\n```\n"), [])
        self.write({"tests/sub/run.sh": "bash tests/docs/extract.sh out docs/a.md\n", "tests/sub/b.cpp": '#include "b1.cpp"\n'})
        self.assertEqual(self.wrong("<!-- snippet: b1.cpp -->\n```cpp\nint x;\n```\n", cmake=""), [])
        self.assertEqual(self.wrong("<!-- excerpt: examples/e.cpp -->\n```cpp\none();\n...\n  three();\n```\n"), [])
        self.assertEqual(self.wrong("```cpp\nint y;\nint z;\n```\n", "docs/a.md: int y;\n"), [])

    def test_not_compiled(self):
        self.assertIn("C++ that nothing compiles", self.wrong("# A\n\n```cpp\nint x;\n```\n")[0])
        self.assertIn("docs/a.md:3", self.wrong("# A\n\n```cuda\nint x;\n```\n")[0])
        marked = "<!-- snippet: a.cpp -->\n```cpp\nint x;\n```\n"
        self.assertIn("nothing in tests extracts this document", self.wrong(marked, cmake="add_executable(docs_a a.cpp)\n")[0])
        self.assertIn("nothing in tests compiles it", self.wrong(marked, cmake="set(documents ${R}/docs/a.md)\n")[0])

    def test_excerpts(self):
        for code in ("one();\ntwo();\n", "three();\none();\n", "four();\n"):  # a comment dropped, another order, not there
            self.assertIn("is not in examples/e.cpp", self.wrong(f"<!-- excerpt: examples/e.cpp -->\n```cpp\n{code}```\n")[0])
        self.assertIn("no compiled file", self.wrong("<!-- excerpt: include/e.hpp -->\n```cpp\none();\n```\n")[0])
        self.assertIn("no compiled file", self.wrong("<!-- excerpt: examples/f.cpp -->\n```cpp\none();\n```\n")[0])

    def test_exceptions(self):
        self.assertIn("has no block", self.wrong("# A\n", "docs/a.md: int y;\n")[0])
        marked = "<!-- snippet: b.cpp -->\n```cpp\nint y;\n```\n"  # an exception does not excuse a block that is marked
        self.assertEqual(len(self.wrong(marked, "docs/a.md: int y;\n")), 2)


class Staging(Temporary):
    """Documents become pages; their links are those of the repository."""

    def staged(self, document):
        self.write({"docs/a.md": document, "docs/choosing.md": "# Choosing\n", "docs/site/index.md": "# L\n\n[a](../a.md)\n\n<!-- README's program -->\n\n<!-- where to go -->\n",
                    "README.md": "# R\n\n<!-- snippet: readme.cpp -->\n```cpp\nint main() {}\n```\n", "CHANGELOG.md": "# C\n", "bench/p.png": "p",
                    "examples/e.cpp": "int e;\n", "examples/sub/f.py": "f = 1\n",
                    "include/loraga/core/t.hpp": "namespace loraga {\n\n/// Is.\nstruct t {};\n\n}  // namespace loraga\n"})
        wrong = stage.stage(self.root, self.root / "out")
        return wrong, (self.root / "out/a.md").read_text()

    def test_links(self):
        wrong, text = self.staged("# A\n\n[c](choosing.md#x) [r](../README.md) [h](../CHANGELOG.md) [`e`](../examples/e.cpp) ![p](../bench/p.png) [#](#a) [w](https://a.b/c.md)\n"
                                  "[i](../include/loraga/core/t.hpp) [j](../include/loraga/core) [d](../examples/sub)\n")
        self.assertEqual(wrong, [])
        self.assertIn("[c](choosing.md#x) [r](index.md) [h](changelog.md) [`e`](source/examples/e.cpp.md) ![p](files/bench/p.png) [#](#a) [w](https://a.b/c.md)", text)
        self.assertIn("[i](api/core.md#include-loragacorethpp) [j](api/core.md) [d](source/examples/sub/index.md)", text)
        self.assertIn("````cpp\nint e;\n````", (self.root / "out/source/examples/e.cpp.md").read_text())
        self.assertIn("[`f.py`](f.py.md)", (self.root / "out/source/examples/sub/index.md").read_text())
        self.assertEqual((self.root / "out/files/bench/p.png").read_text(), "p")

    def test_names_of_files_become_titles(self):
        _, text = self.staged("# A\n\n[choosing.md](choosing.md#x), [docs/choosing.md](choosing.md), [about e.cpp](choosing.md)\n")
        self.assertIn("[Choosing](choosing.md#x), [Choosing](choosing.md), [about e.cpp](choosing.md)", text)

    def test_missing(self):
        wrong, text = self.staged("# A\n\n[b `c`](b.md) and [up](../../x.md)\n")
        self.assertEqual(text, "# A\n\nb `c` and up\n")
        self.assertEqual(wrong, ["docs/a.md: links to b.md, which is not there", "docs/a.md: links to ../../x.md, which is not there"])

    def test_code_is_left_alone(self):
        text = "# A\n\n`[i](b.md)`\n\n```cpp\nf[i](b.md);\n```\n"
        self.assertEqual(self.staged(text), ([], text))

    def test_landing(self):
        self.staged("# A page that no group names\n")
        text = (self.root / "out/index.md").read_text()
        self.assertIn("[a](a.md)", text)
        self.assertIn("```cpp\nint main() {}\n```", text)
        self.assertIn("* [Choosing](choosing.md): ", text)
        self.assertIn("* [A page that no group names](a.md)\n", text)
        self.assertNotIn("libtorch", text)  # which is not there
        self.assertIn(":caption: Guide\n\nchoosing\n```", text)

    def test_every_group_has_files_that_can_be_there(self):
        self.assertTrue(all(file == "api" or file.endswith(".md") for _, group in nav.GROUPS for file, _ in group))


if __name__ == "__main__":
    unittest.main()
