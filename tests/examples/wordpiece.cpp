// The sentiment example's tokenizer against Python's, whose ids tests/interop/minilm.py wrote; and its rule for sets.
#include "../../examples/data/vader.hpp"

#include <loraga/io/model.hpp>
#include <set>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using loraga::index_t;

namespace {

/// A vocabulary of these pieces, after BERT's special ones: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3.
data::wordpiece tokenizer(std::vector<std::string> const& pieces) {
  test::folder folder;
  std::string text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n";
  for (auto const& p : pieces) text += p + "\n";
  test::write_file(folder / "vocab.txt", text);
  return data::wordpiece((folder / "vocab.txt").string());
}
using ids = std::vector<index_t>;

}  // namespace

TEST_CASE("wordpiece: longest pieces first, punctuation apart, accents and case dropped", "[examples]") {
  auto const t = tokenizer({"un", "##believ", "##able", "cafe", "!", "##ab", "字", "strasse", "straße", "a"});
  CHECK(t.encode("Unbelievable CAFÉ!!") == ids{2, 4, 5, 6, 7, 8, 8, 3});
  CHECK(t.encode("caf\u0065\u0301") == ids{2, 7, 3});            // a combining accent
  CHECK(t.encode("unbelievx") == ids{2, 1, 3});                  // one piece missing: the word is unknown
  CHECK(t.encode("a字a\u200b\u0007a") == ids{2, 13, 10, 1, 3});  // control and format characters vanish: "aa"
  CHECK(t.encode("a\u00a0a\ta\r\na") == ids{2, 13, 13, 13, 13, 3});
  CHECK(t.encode("STRASSE Straße") == ids{2, 11, 12, 3});
  CHECK(t.encode("a\xff\xfe a \xe2\x82") == ids{2, 13, 13, 3});  // broken UTF-8 vanishes
  CHECK(t.encode(std::string("a\0a", 3)) == ids{2, 1, 3});
  CHECK(t.encode("") == ids{2, 3});
  CHECK(t.encode("a a a a a", 4) == ids{2, 13, 13, 3});
  CHECK(t.encode(std::string(100, 'a')) == ids{2, 1, 3});
  CHECK_THROWS_WITH(data::wordpiece("nowhere/vocab.txt"), Catch::Contains("nowhere/vocab.txt"));
  test::folder folder;
  test::write_file(folder / "vocab.txt", "a\nb\n");
  CHECK_THROWS_WITH(data::wordpiece((folder / "vocab.txt").string()), Catch::Contains("[UNK]"));
}

TEST_CASE("wordpiece: BERT's vocabulary gives the ids transformers gives", "[examples]") {
  std::string const vocabulary = LORAGA_TEST_DATA "/../build/minilm/vocab.txt";
  if (!std::filesystem::exists(vocabulary)) {
    WARN("SKIPPED: " << vocabulary << " is missing (bash examples/run.sh sentiment --build-only fetches it)");
    return;
  }
  data::wordpiece const t(vocabulary);
  CHECK(t.size() == 30522);
  auto const path = LORAGA_TEST_DATA "/interop/reference/minilm/sentences.json";
  for (auto const& s : loraga::parse_json(loraga::read_text(path), "sentences", 8)) {
    INFO(s["text"]);
    CHECK(t.encode(s["text"]) == s["ids"].get<ids>());
  }
}

TEST_CASE("VADER's sets: labels by sign, near zero dropped, documents whole, the same each time", "[examples]") {
  auto const t = tokenizer({"good", "bad"});
  test::folder folder;
  auto const path = (folder / "set.txt").string();
  std::string lines;
  for (int d = 0; d < 100; ++d)
    for (int n = 0; n < 5; ++n) {
      std::string const rating = n == 4 ? "-0.45" : d % 2 == 0 ? "1.5" : "-2.25";
      lines += std::to_string(d) + "_" + std::to_string(n) + "\t" + rating + "\t" + (d % 2 == 0 ? "good " : "bad ") +
               std::string(static_cast<std::size_t>(d), '!') + "\r\n";
    }
  test::write_file(path, lines.substr(0, lines.size() - 2));
  auto const all = data::read_vader(path);
  REQUIRE(all.size() == 500);
  CHECK(all.back().text.size() == 103);
  data::vader_rule const rule{.tokens = 8, .test = 42, .validation = 1000};
  auto const s = data::split_vader(all, t, rule);
  CHECK(s.dropped == 100);
  CHECK(s.test.count() == 40);  // whole documents of four within 42
  CHECK(s.validation.count() == 40);
  CHECK(s.train.count() == 320);
  CHECK(s.positive == 200);
  CHECK(s.cut == 4 * (100 - 6));
  std::map<std::size_t, std::set<int>> parts;
  for (auto const* part : {&s.train, &s.validation, &s.test})
    for (index_t i = 0; i < part->count(); ++i) {
      auto const& ids = part->tokens(i);
      CHECK(ids.size() <= 8);
      CHECK(part->label(i) == (ids[1] == 4));
    }
  auto const again = data::split_vader(all, t, rule);
  for (index_t i = 0; i < s.test.count(); ++i) CHECK(again.test.tokens(i) == s.test.tokens(i));

  // without documents, what is the same to the tokenizer stays together
  std::string twins;
  for (int i = 0; i < 60; ++i) twins += std::to_string(i) + (i % 2 ? "\t0.7\tgood " : "\t0.9\tGOOD ") + "good\n";
  test::write_file(path, twins);
  auto const plain = data::read_vader(path);
  CHECK(plain[0].document.empty());
  auto const whole = data::split_vader(plain, t, rule);
  CHECK(whole.train.count() == 60);
  test::write_file(path, "1\t0.7\tfine\n2\tnot a number\tbroken\n");
  CHECK_THROWS_WITH(data::read_vader(path), Catch::Contains("line 2"));
}
