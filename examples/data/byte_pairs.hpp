#pragma once
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <array>
#include <loraga/io/base_model.hpp>
#include <unordered_map>

namespace data {

using loraga::index_t;

/// What a byte-level BPE tokenizer is made of. Tokens and merges are written as GPT-2's files have them: every byte a
/// printable character ("Ġ" is a space).
struct byte_pair_tables {
  std::string where;                                             // the file, for messages
  std::vector<std::string> tokens = {};                          // by id
  std::vector<std::pair<std::string, std::string>> merges = {};  // the first is done first
  std::vector<bool> special = {};                                // by id: tokens that are no text
  bool digits_alone = false;                                     // every digit is a piece of its own
};

/// From a GGUF file's metadata.
/// errors  format_error for another kind of tokenizer, or one without merges
inline byte_pair_tables read_byte_pairs(loraga::gguf_file const& file) {
  byte_pair_tables t{.where = file.path().string()};
  auto const expect = [&](char const* key, std::string const& found, bool fits, char const* expected) {
    if (!fits) loraga::raise<loraga::format_error>(t.where, key, "'" + found + "'", expected);
  };
  auto const model = file.text("tokenizer.ggml.model"), pieces = file.text("tokenizer.ggml.pre");
  expect("tokenizer.ggml.model", model, model == "gpt2", "gpt2, byte-level BPE");
  expect("tokenizer.ggml.pre", pieces, pieces == "smollm" || pieces == "gpt-2", "smollm or gpt-2");
  t.digits_alone = pieces == "smollm";
  t.tokens = file.texts("tokenizer.ggml.tokens");
  constexpr int normal = 1, user_defined = 4;
  for (int const kind : file.numbers<int>("tokenizer.ggml.token_type")) {
    expect("tokenizer.ggml.token_type", "user defined", kind != user_defined,
           "no tokens that are cut out of a text first");
    t.special.push_back(kind != normal);
  }
  for (auto const& line : file.texts("tokenizer.ggml.merges")) {
    auto const space = line.find(' ', 1);
    expect("tokenizer.ggml.merges", line, space != line.npos, "two tokens with a space between");
    t.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return t;
}

/// From a tokenizer.json of Hugging Face's.
/// errors  file_error; format_error for another kind of tokenizer, or one without merges
inline byte_pair_tables read_byte_pairs(std::filesystem::path const& path) {
  byte_pair_tables t{.where = path.string()};
  auto const json = loraga::parse_json(loraga::read_text(path), t.where, 64);
  auto const expect = [&](char const* key, bool fits, char const* expected) {
    if (!fits) loraga::raise<loraga::format_error>(t.where, key, "missing or another", expected);
  };
  expect("model", json.is_object() && json.contains("model") && json["model"].is_object(), "a BPE model");
  auto const& model = json["model"];
  expect("model.type", model.value("type", "") == "BPE", "BPE");
  expect("model.vocab", model.contains("vocab") && model["vocab"].is_object(), "ids by token");
  expect("model.merges", model.contains("merges") && model["merges"].is_array(), "a list of merges");
  auto const on = [](auto const& of, char const* key, bool otherwise) {
    return of.contains(key) && of[key].is_boolean() ? of[key].template get<bool>() : otherwise;
  };
  expect("normalizer", !json.contains("normalizer") || json["normalizer"].is_null(), "none");
  expect("model.byte_fallback", !on(model, "byte_fallback", false), "false");
  expect("model.ignore_merges", !on(model, "ignore_merges", false), "false");
  expect("pre_tokenizer", json.contains("pre_tokenizer") && json["pre_tokenizer"].is_object(), "ByteLevel");
  auto steps = nlohmann::ordered_json::array({json["pre_tokenizer"]});
  if (steps[0].value("type", "") == "Sequence" && steps[0].contains("pretokenizers")) steps = steps[0]["pretokenizers"];
  bool known = steps.is_array() && !steps.empty() && steps.size() <= 2;
  for (std::size_t i = 0; known && i < steps.size(); ++i) {
    auto const type = steps[i].is_object() ? steps[i].value("type", "") : "";
    bool const last = i + 1 == steps.size();
    if (last)
      known = type == "ByteLevel" && on(steps[i], "use_regex", true) && !on(steps[i], "add_prefix_space", false);
    else known = t.digits_alone = type == "Digits" && on(steps[i], "individual_digits", false);
  }
  expect("pre_tokenizer", known, "ByteLevel with GPT-2's pieces, alone or behind Digits one by one");
  auto const put = [&](std::string const& token, index_t id, bool special) {
    expect("an id", id >= 0 && id < 10'000'000, "a number below 10 million");
    auto const at = static_cast<std::size_t>(id);
    if (t.tokens.size() <= at) t.tokens.resize(at + 1), t.special.resize(at + 1);
    t.tokens[at] = token;
    t.special[at] = special;
  };
  for (auto const& [token, id] : model["vocab"].items())
    put(token, id.is_number_integer() ? id.get<index_t>() : -1, false);
  if (json.contains("added_tokens"))
    for (auto const& a : json["added_tokens"]) {
      expect("added_tokens", a.is_object() && on(a, "special", true),
             "special ones: others are cut out of a text first");
      put(loraga::json_field<std::string>(a, "content", "", t.where), loraga::json_field<index_t>(a, "id", -1, t.where),
          true);
    }
  for (auto const& m : model["merges"]) {
    if (m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string()) {
      t.merges.emplace_back(m[0].get<std::string>(), m[1].get<std::string>());
      continue;
    }
    auto const line = m.is_string() ? m.get<std::string>() : "";
    auto const space = line.find(' ', 1);
    expect("model.merges", space != line.npos, "two tokens with a space between");
    t.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return t;
}

/// Byte-level BPE as GPT-2 has it. Text is cut into pieces (words with the space before them, numbers, punctuation,
/// white space), and within each the bytes are merged, the earliest merge of the list first. Unicode categories are
/// ICU's; a byte that is no UTF-8 becomes U+FFFD, and one that the vocabulary has no token for is left out, as
/// llama.cpp does both. Special tokens written out in a text are text.
/// source  github.com/openai/gpt-2 (encoder.py); pieces as llama.cpp and Hugging Face's ByteLevel cut them
class byte_pairs {
  std::vector<std::string> bytes_;  // of each token; of special ones their name
  std::vector<bool> special_;
  std::array<index_t, 256> of_byte_{};
  struct merge {
    index_t rank, result;
  };
  std::unordered_map<std::uint64_t, merge> merges_;
  bool digits_alone_;

 public:
  /// errors  format_error naming the token or merge that does not fit
  explicit byte_pairs(byte_pair_tables const& t) : special_(t.special), digits_alone_(t.digits_alone) {
    auto const refuse = [&](std::string const& what, char const* expected) {
      loraga::raise<loraga::format_error>(t.where, "tokenizer", what, expected);
    };
    if (t.merges.empty()) refuse("no merges", "byte-level BPE with merges");
    if (t.special.size() != t.tokens.size()) refuse("kinds of other tokens", "one for each token");
    auto const byte_of = byte_of_character();
    std::unordered_map<std::string, index_t> ids;
    of_byte_.fill(-1);
    for (std::size_t id = 0; id < t.tokens.size(); ++id) {
      bytes_.push_back(special_[id] ? t.tokens[id] : plain(t.tokens[id], byte_of));
      if (special_[id]) continue;
      ids.emplace(bytes_.back(), static_cast<index_t>(id));
      if (bytes_.back().size() == 1) of_byte_[static_cast<unsigned char>(bytes_.back()[0])] = static_cast<index_t>(id);
    }
    for (std::size_t rank = 0; rank < t.merges.size(); ++rank) {
      auto const left = plain(t.merges[rank].first, byte_of), right = plain(t.merges[rank].second, byte_of);
      auto const a = ids.find(left), b = ids.find(right), both = ids.find(left + right);
      if (a == ids.end() || b == ids.end() || both == ids.end())
        refuse("merge " + std::to_string(rank) + " of what is no token", "merges of tokens into tokens");
      merges_.emplace(key(a->second, b->second), merge{static_cast<index_t>(rank), both->second});
    }
  }
  index_t size() const { return static_cast<index_t>(bytes_.size()); }
  /// The special token of that name, or -1.
  index_t special(std::string_view name) const {
    for (std::size_t id = 0; id < bytes_.size(); ++id)
      if (special_[id] && bytes_[id] == name) return static_cast<index_t>(id);
    return -1;
  }
  std::vector<index_t> encode(std::string_view text) const {
    std::vector<index_t> ids;
    auto const all = read(text);
    for (std::size_t first = 0; first < all.size();) {
      std::size_t last = first;  // digits that stand alone cut a text before anything else does
      while (digits_alone_ && last < all.size() && !all[last].number) ++last;
      if (!digits_alone_) last = all.size();
      for (std::size_t at = first; at < last;) {
        auto const end = piece_end(all, at, last);
        add(all, at, end, ids);
        at = end;
      }
      if (last < all.size()) add(all, last, last + 1, ids), ++last;
      first = last;
    }
    return ids;
  }
  /// Special tokens are left out.
  std::string decode(std::vector<index_t> const& ids) const {
    std::string text;
    for (index_t const id : ids)
      if (id >= 0 && id < size() && !special_[static_cast<std::size_t>(id)])
        text += bytes_[static_cast<std::size_t>(id)];
    return text;
  }

 private:
  struct character {
    std::string bytes;
    UChar32 code;
    bool letter, number, space;
  };
  static std::uint64_t key(index_t a, index_t b) {
    return static_cast<std::uint64_t>(a) << 32 | static_cast<std::uint32_t>(b);
  }

  static std::vector<character> read(std::string_view text) {
    std::vector<character> all;
    auto const size = static_cast<std::int32_t>(text.size());
    for (std::int32_t i = 0; i < size;) {
      std::int32_t const begin = i;
      UChar32 c;
      U8_NEXT(text.data(), i, size, c);
      std::string bytes(text.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(i - begin)));
      if (c < 0) {
        c = 0xFFFD, bytes = "\xEF\xBF\xBD";
        i = begin + 1;
      }
      auto const mask = U_GET_GC_MASK(c);
      all.push_back(
          {std::move(bytes), c, (mask & U_GC_L_MASK) != 0, (mask & U_GC_N_MASK) != 0, u_isUWhiteSpace(c) != 0});
    }
    return all;
  }
  /// Where the piece that begins at `at` ends: 's|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^sLN]+|s+(?!S)|s+
  static std::size_t piece_end(std::vector<character> const& all, std::size_t at, std::size_t last) {
    auto const code = [&](std::size_t i) { return i < last ? all[i].code : -1; };
    if (code(at) == '\'') {
      auto const a = code(at + 1), b = code(at + 2);
      if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
      if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
    }
    auto const run = [&](std::size_t from, auto const& belongs) {
      while (from < last && belongs(all[from])) ++from;
      return from;
    };
    std::size_t const word = at + (code(at) == ' ' && at + 1 < last ? 1 : 0);
    auto const& first = all[word];
    if (first.letter) return run(word, [](character const& c) { return c.letter; });
    if (first.number) return run(word, [](character const& c) { return c.number; });
    if (!first.space) return run(word, [](character const& c) { return !c.letter && !c.number && !c.space; });
    auto const end = run(at, [](character const& c) { return c.space; });
    return end < last && end - at > 1 ? end - 1 : end;  // the last space belongs to the word behind it
  }
  /// The piece's tokens.
  void add(std::vector<character> const& all, std::size_t first, std::size_t last, std::vector<index_t>& to) const {
    std::vector<index_t> ids;
    for (std::size_t i = first; i < last; ++i)
      for (char const b : all[i].bytes) ids.push_back(of_byte_[static_cast<unsigned char>(b)]);
    while (ids.size() > 1) {
      merge best{static_cast<index_t>(merges_.size()), 0};
      std::size_t where = 0;
      for (std::size_t i = 0; i + 1 < ids.size(); ++i)
        if (auto const found = merges_.find(key(ids[i], ids[i + 1]));
            found != merges_.end() && found->second.rank < best.rank)
          best = found->second, where = i;
      if (best.result == 0 && best.rank == static_cast<index_t>(merges_.size())) break;
      ids[where] = best.result;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(where) + 1);
    }
    std::copy_if(ids.begin(), ids.end(), std::back_inserter(to), [](index_t id) { return id >= 0; });
  }

  /// GPT-2's characters for bytes: printable ones of Latin-1 stand for themselves, the others for those from U+0100 on.
  static std::unordered_map<UChar32, char> byte_of_character() {
    std::unordered_map<UChar32, char> map;
    UChar32 next = 0x100;
    for (int b = 0; b < 256; ++b) {
      bool const itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      map[itself ? b : next++] = static_cast<char>(b);
    }
    return map;
  }
  static std::string plain(std::string const& token, std::unordered_map<UChar32, char> const& byte_of) {
    std::string bytes;
    for (auto const& c : read(token)) {
      auto const found = byte_of.find(c.code);
      if (found != byte_of.end()) bytes += found->second;
      else bytes += c.bytes;
    }
    return bytes;
  }
};

}  // namespace data
