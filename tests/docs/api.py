"""The reference's generator on small headers: what it finds, what it refuses, what it shows."""
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/api"))
import generate
import rules
from headers import TAGS, read_headers, split_doc

HEADER = '''#pragma once
#include <vector>

namespace loraga {

namespace detail {
struct hidden {};
}  // namespace detail

/// What kinds there are: `one`, and others.
enum class kind {
  one,
  two,   ///< the second
  three
};

/// Throws if x is bad.  errors  value_error
/// cost    nothing;
///         really
template <class T>
requires std::same_as<T, float>
inline void check_it(T x, char const* text = "a; {b}") {
  if (x > 0) return;
}
/// Marks.
struct first_mark {};
struct second_mark {};  ///< the other one

template <class T>
naked(T) -> naked;
struct naked {
  int loose = 0, more = 1;
  int rows = 3;
  /// Adds.
  template <class B>
  void add(B& be) requires requires(B& b) { b.add(); }
  {
    be.add();
  }
  void add(int) {}
  bool operator==(naked const&) const = default;
  template <class F>
  decltype(auto) visit(F&& f) const {
    return f(*this);
  }
  template <class A>
  requires std::is_constructible_v<int, A&&> naked(A&& a) : loose(a) {}
  using base::one, base::two;
  static constexpr bool chosen = [] {
    if constexpr (requires { naked{}; }) return true;
    else return false;
  }();
  naked() : loose{0}, more(1) {}

 private:
  int secret_ = 0;
};

MACRO_CALL(1, 2)
template <class T>
void naked::add(T& be) {
  be.add();
}

/// A concept.
///   named(T)   in its docstring
template <class T>
concept Thing = requires(T t) {
  { t.run() } -> std::same_as<void>;  // runs
};

}  // namespace loraga
'''


class Generator(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def read(self, text, name="core/test.hpp"):
        path = Path(self.folder.name) / "loraga" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return read_headers(Path(self.folder.name))

    def lacking(self, headers, glossary=()):
        explain = rules.Explanations(headers, dict(glossary))
        return [n.full for n in rules.undocumented(headers, explain)]

    def test_names(self):
        names = self.read(HEADER)["loraga/core/test.hpp"]
        self.assertEqual([(n.kind, n.name) for n in names],
                         [("enum", "kind"), ("function", "check_it"), ("class", "first_mark"), ("class", "second_mark"),
                          ("class", "naked"), ("concept", "Thing")])
        self.assertEqual([m.name for m in names[4].members], ["loose", "more", "rows", "add", "add", "visit", "naked", "chosen", "naked"])
        self.assertEqual(names[3].doc, ["the other one"])
        self.assertTrue(names[4].members[4].shared)

    def test_lacking(self):
        headers = self.read(HEADER)
        self.assertEqual(self.lacking(headers), ["kind::three", "naked", "naked::loose", "naked::more", "naked::rows", "naked::visit", "naked::chosen"])
        self.assertEqual(self.lacking(headers, {"rows": "r"}), ["kind::three", "naked", "naked::loose", "naked::more", "naked::visit", "naked::chosen"])

    def test_concepts_explain_members(self):
        text = "#pragma once\nnamespace loraga {\n\n/// Does.\nstruct exact {\n  int top(int k) const { return k; }\n  int other() const { return 0; }\n};\n\n" \
               "/// A method.\ntemplate <class S>\nconcept SvdMethod = requires(S const& s) {\n  { s.top(1) } -> std::same_as<int>;\n};\n\n}  // namespace loraga\n"
        self.assertEqual(self.lacking(self.read(text, "svd/exact.hpp")), ["exact::other"])
        listed = text.replace("/// A method.", "/// A method.\n///   other(k)   another")  # in a docstring's lines of their own
        self.assertEqual(self.lacking(self.read(listed, "svd/exact.hpp")), [])

    def test_tags(self):
        prose, tagged = split_doc(["Throws if x is bad.  errors  value_error", "cost    nothing;", "        really", "More."])
        self.assertEqual(tagged, [("errors", "value_error"), ("cost", "nothing; really")])
        self.assertEqual(prose, [["Throws if x is bad.", "More."]])
        self.assertEqual(split_doc(["Is used so:", "  a();", "    b();", "And more."])[0],
                         [["Is used so:"], ["  a();", "    b();"], ["And more."]])
        broken = self.read("namespace loraga {\n\n/// The order stays. errors  shape_error\ninline void f() {}\n\n}  // namespace loraga\n")
        self.assertEqual([n.name for n, _ in rules.broken_tags(broken, TAGS)], ["f"])
        reflowed = self.read("namespace loraga {\n\n/// Returns dY. errors as g's\ninline void f() {}\n\n}  // namespace loraga\n")
        self.assertEqual([n.name for n, _ in rules.broken_tags(reflowed, TAGS)], ["f"])

    def test_pages(self):
        out = Path(self.folder.name) / "out"
        generate.Pages(self.read(HEADER)).write(out)
        page = (out / "core.md").read_text()
        self.assertIn("\n* **cost** nothing; really\n", page)
        self.assertIn("{ t.run() } -> std::same_as<void>;  // runs", page)
        self.assertIn("\n### first_mark\n", page)
        self.assertIn("\n`template <class B> void add(B& be) requires requires(B& b) { b.add(); }`\n: Adds.\n", page)
        self.assertNotIn("hidden", page)
        self.assertNotIn("secret_", page)
        self.assertIn("* [`check_it`](core.md#check_it): Throws if x is bad.\n", (out / "index.md").read_text())

    def test_places(self):
        """Names link to the anchors that their headings get, the second of a name to one of its own."""
        twice = HEADER.replace("/// A concept.", "/// Does it by value.\ninline void check_it(int) {}\n\n/// A concept: `check_it`, first*last_mark.")
        pages = generate.Pages(self.read(twice))
        places = [place for _, groups in pages.sections["core"] for _, place in groups]
        self.assertIn("core.md#check_it", places)
        self.assertIn("core.md#check_it-1", places)
        self.assertEqual(pages.page_of_header("loraga/core/test.hpp"), "api/core.md#include-loragacoretesthpp")
        self.assertEqual(pages.page_of_header("loraga/core"), "api/core.md")
        self.assertEqual(pages.page_of_header("loraga"), "api/index.md")
        self.assertEqual(pages.words("`check_it`, 2*first_mark_of [x]"),
                         "[`check_it`](core.md#check_it), 2\\*first\\_mark\\_of \\[x\\]")


if __name__ == "__main__":
    unittest.main()
