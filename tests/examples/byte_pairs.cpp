// The language example's tokenizer. That it agrees with others' on real vocabularies is shown in tests/interop.
#include "../../examples/data/byte_pairs.hpp"

#include "../io/gguf_bytes.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

namespace {

/// All bytes that ASCII and one letter with an accent need, and a few merges.
data::byte_pair_tables small_tables(bool digits_alone = true) {
  data::byte_pair_tables t{.where = "test", .digits_alone = digits_alone};
  auto const add = [&](std::string const& token, bool special = false) {
    t.tokens.push_back(token);
    t.special.push_back(special);
  };
  add("<|end|>", true);
  add("\xC4\xA0");  // U+0120, a space
  add("\xC4\x8A");  // U+010A, a line's end
  for (char c = '!'; c <= '~'; ++c) add(std::string(1, c));
  add("\xC3\x83"), add("\xC2\xA9");  // the two bytes of an e with an accent
  auto const merge = [&](std::string const& a, std::string const& b) {
    t.merges.emplace_back(a, b);
    add(a + b);
  };
  merge("l", "l"), merge("h", "e"), merge("ll", "o"), merge("he", "llo"), merge("\xC4\xA0", "w"), merge("1", "2");
  merge("'", "s"), merge("\xC3\x83", "\xC2\xA9");
  return t;
}

std::vector<std::string> pieces(data::byte_pairs const& t, std::string const& text) {
  std::vector<std::string> all;
  for (index_t const id : t.encode(text)) all.push_back(t.decode({id}));
  return all;
}

using words = std::vector<std::string>;

}  // namespace

TEST_CASE("byte pairs: the earliest merge goes first, within pieces of a text", "[examples]") {
  data::byte_pairs const t(small_tables());
  CHECK(pieces(t, "hello") == words{"hello"});
  CHECK(pieces(t, "hell") == words{"he", "ll"});
  CHECK(pieces(t, "lll") == words{"ll", "l"});
  CHECK(pieces(t, "hello world") == words{"hello", " w", "o", "r", "l", "d"});
  CHECK(pieces(t, "he  w") == words{"he", " ", " w"});
  CHECK(pieces(t, "he's") == words{"he", "'s"});
  CHECK(pieces(t, "he \n") == words{"he", " ", "\n"});
  CHECK(pieces(t, "caf\xC3\xA9") == words{"c", "a", "f", "\xC3\xA9"});
  CHECK(pieces(t, "12") == words{"1", "2"});
  CHECK(pieces(data::byte_pairs(small_tables(false)), "12") == words{"12"});
  CHECK(t.encode("").empty());
}

TEST_CASE("byte pairs: special tokens are no text, unknown bytes are left out", "[examples]") {
  data::byte_pairs const t(small_tables());
  CHECK(t.special("<|end|>") == 0);
  CHECK(t.special("hello") == -1);
  CHECK(t.decode(t.encode("<|end|>")) == "<|end|>");
  CHECK(t.encode("<|end|>").size() > 1);
  CHECK(t.decode({0, 3, 99999, -1}) == "!");
  CHECK(t.encode("\xE6\x97\xA5").empty());
  CHECK(t.encode("a\xFF").size() == 1);  // U+FFFD, whose bytes this vocabulary lacks
}

TEST_CASE("byte pairs are read from either kind of file, and what they are not is refused by name", "[examples]") {
  test::folder folder;
  auto const tables = small_tables();
  auto const write = [&](auto change) {
    test::gguf_builder b;
    std::string model = "gpt2", pre = "smollm";
    auto merges = tables.merges;
    change(model, pre, merges);
    b.entry("tokenizer.ggml.model", model);
    b.entry("tokenizer.ggml.pre", pre);
    b.list("tokenizer.ggml.tokens", 8, tables.tokens.size());
    for (auto const& token : tables.tokens) b.entries.text(token);
    b.list("tokenizer.ggml.token_type", 5, tables.tokens.size());
    for (bool const special : tables.special) b.entries.number<std::uint32_t>(special ? 3 : 1);
    b.list("tokenizer.ggml.merges", 8, merges.size());
    for (auto const& [x, y] : merges) b.entries.text(y.empty() ? x : x + " " + y);
    test::write_file(folder / "x.gguf", b.bytes());
    return test::message_of([&] {
      data::byte_pairs const t(data::read_byte_pairs(gguf_file(folder / "x.gguf")));
      CHECK(pieces(t, "hello w12") == words{"hello", " w", "1", "2"});
    });
  };
  CHECK(write([](auto&, auto&, auto&) {}) == "");
  CHECK(write([](auto& model, auto&, auto&) { model = "llama"; }).find("byte-level BPE") != std::string::npos);
  CHECK(write([](auto&, auto& pre, auto&) { pre = "deepseek"; }).find("smollm or gpt-2") != std::string::npos);
  CHECK(write([](auto&, auto&, auto& merges) { merges.clear(); }).find("no merges") != std::string::npos);
  CHECK(write([](auto&, auto&, auto& merges) {
          merges[1] = {"hello", ""};
        }).find("a space between") != std::string::npos);
  CHECK(write([](auto&, auto&, auto& merges) { merges[1] = {"q", "q"}; }).find("merge 1") != std::string::npos);

  nlohmann::ordered_json vocabulary, merges = nlohmann::ordered_json::array();
  for (std::size_t i = 1; i < tables.tokens.size(); ++i) vocabulary[tables.tokens[i]] = i;
  for (auto const& [x, y] : tables.merges) merges.push_back({x, y});
  nlohmann::ordered_json file{
      {"added_tokens", {{{"id", 0}, {"content", "<|end|>"}, {"special", true}}}},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, {{"type", "ByteLevel"}}}}}},
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}};
  test::write_file(folder / "tokenizer.json", file.dump());
  data::byte_pairs const t(data::read_byte_pairs(folder / "tokenizer.json"));
  CHECK(pieces(t, "hello w12") == words{"hello", " w", "1", "2"});
  CHECK(t.special("<|end|>") == 0);
  auto const refused = [&](auto change, char const* part) {
    auto other = file;
    change(other);
    test::write_file(folder / "other.json", other.dump());
    INFO(part);
    CHECK(test::message_of([&] { data::read_byte_pairs(folder / "other.json"); }).find(part) != std::string::npos);
  };
  using J = nlohmann::ordered_json&;
  refused([](J j) { j["model"]["type"] = "Unigram"; }, "BPE");
  // pieces, or characters, that would be others than this tokenizer's
  refused([](J j) { j["pre_tokenizer"]["pretokenizers"][0]["type"] = "Split"; }, "pre_tokenizer");
  refused([](J j) { j["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false; }, "pre_tokenizer");
  refused([](J j) { j["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = false; }, "pre_tokenizer");
  refused([](J j) { j["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; }, "pre_tokenizer");
  refused([](J j) { j["pre_tokenizer"] = nullptr; }, "pre_tokenizer");
  refused([](J j) { j["normalizer"] = {{"type", "NFC"}}; }, "normalizer");
  refused([](J j) { j["model"]["ignore_merges"] = true; }, "ignore_merges");
  refused([](J j) { j["model"]["byte_fallback"] = true; }, "byte_fallback");
  refused([](J j) { j["added_tokens"][0]["special"] = false; }, "added_tokens");
}
