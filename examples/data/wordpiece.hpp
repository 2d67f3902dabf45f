#pragma once
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>

#include <fstream>
#include <loraga/core/config.hpp>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace data {

using loraga::index_t;

/// BERT's tokenizer for uncased models: text is cleaned, accents and case are dropped, words are cut at spaces and
/// punctuation, and each word is the longest pieces of the vocabulary from its start on ("##" marks a continuation).
/// Unicode categories and decompositions are ICU's. Special tokens written out in a text are text.
/// source  github.com/huggingface/tokenizers (BertNormalizer, BertPreTokenizer, WordPiece)
class wordpiece {
  static constexpr std::size_t longest_word = 100;  // code points; longer ones are unknown
  std::unordered_map<std::string, index_t> pieces_;
  index_t unknown_ = 0, start_ = 0, end_ = 0;

 public:
  /// One piece per line, as vocab.txt has them.
  /// errors  runtime_error if the file cannot be read or lacks BERT's special tokens
  explicit wordpiece(std::string const& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path + ": cannot be opened; examples/run.sh sentiment puts it there");
    std::string line;
    while (std::getline(file, line)) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      pieces_.emplace(line, static_cast<index_t>(pieces_.size()));
    }
    auto const special = [&](char const* name) {
      auto const found = pieces_.find(name);
      if (found == pieces_.end()) throw std::runtime_error(path + ": is not BERT's vocabulary, it lacks " + name);
      return found->second;
    };
    unknown_ = special("[UNK]");
    start_ = special("[CLS]");
    end_ = special("[SEP]");
  }
  index_t size() const { return static_cast<index_t>(pieces_.size()); }

  /// [CLS], the text's pieces, [SEP]; at most `most` ids, of which the last is [SEP].
  std::vector<index_t> encode(std::string const& text, std::size_t most = 512) const {
    std::vector<index_t> ids{start_};
    for (auto const& word : words(text)) add_pieces(word, ids);
    if (ids.size() > most - 1) ids.resize(most - 1);
    ids.push_back(end_);
    return ids;
  }

 private:
  using word = std::vector<UChar32>;

  static bool is_control(UChar32 c) {
    if (c == '\t' || c == '\n' || c == '\r') return false;
    return (U_GET_GC_MASK(c) & U_GC_C_MASK) != 0;
  }
  static bool is_chinese(UChar32 c) {
    auto const within = [c](UChar32 first, UChar32 last) { return c >= first && c <= last; };
    return within(0x4E00, 0x9FFF) || within(0x3400, 0x4DBF) || within(0x20000, 0x2A6DF) || within(0x2A700, 0x2B73F) ||
           within(0x2B740, 0x2B81F) || within(0x2B920, 0x2CEAF) || within(0xF900, 0xFAFF) || within(0x2F800, 0x2FA1F);
  }
  static bool is_punctuation(UChar32 c) {
    bool const ascii = (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    return ascii || u_ispunct(c);
  }

  /// Code points without accents, in lower case; spaces around Chinese characters, which are words of their own.
  static word normalise(std::string const& text) {
    std::u16string clean;
    auto const append = [](std::u16string& to, UChar32 c) {
      if (U_IS_BMP(c)) {
        to += static_cast<char16_t>(c);
      } else {
        to += static_cast<char16_t>(U16_LEAD(c));
        to += static_cast<char16_t>(U16_TRAIL(c));
      }
    };
    auto const size = static_cast<std::int32_t>(text.size());
    for (std::int32_t i = 0; i < size;) {
      UChar32 c;
      U8_NEXT(text.data(), i, size, c);
      if (c <= 0 || c == 0xFFFD || is_control(c)) continue;
      if (u_isUWhiteSpace(c)) c = ' ';
      if (is_chinese(c)) clean += u' ';
      append(clean, c);
      if (is_chinese(c)) clean += u' ';
    }
    UErrorCode status = U_ZERO_ERROR;
    auto const* const nfd = unorm2_getNFDInstance(&status);
    std::u16string apart(4 * clean.size() + 16, u'\0');
    auto const length = unorm2_normalize(nfd, clean.data(), static_cast<std::int32_t>(clean.size()), apart.data(),
                                         static_cast<std::int32_t>(apart.size()), &status);
    if (U_FAILURE(status)) throw std::runtime_error(std::string("wordpiece: ICU says ") + u_errorName(status));
    word result;
    for (std::int32_t i = 0; i < length;) {
      UChar32 c;
      U16_NEXT(apart.data(), i, length, c);
      if (u_charType(c) != U_NON_SPACING_MARK) result.push_back(u_tolower(c));
    }
    return result;
  }

  static std::vector<word> words(std::string const& text) {
    std::vector<word> all;
    bool open = false;  // whether the last word may still grow
    for (UChar32 const c : normalise(text)) {
      bool const alone = is_punctuation(c);
      if (u_isUWhiteSpace(c)) {
        open = false;
        continue;
      }
      if (!open || alone) all.emplace_back();
      all.back().push_back(c);
      open = !alone;
    }
    return all;
  }

  void add_pieces(word const& w, std::vector<index_t>& ids) const {
    if (w.size() > longest_word) return ids.push_back(unknown_);
    std::string bytes;
    std::vector<std::size_t> ends{0};  // of code points
    for (UChar32 const c : w) {
      char buffer[U8_MAX_LENGTH];
      std::int32_t n = 0;
      U8_APPEND_UNSAFE(buffer, n, c);
      bytes.append(buffer, static_cast<std::size_t>(n));
      ends.push_back(bytes.size());
    }
    std::vector<index_t> found;
    for (std::size_t first = 0; first < w.size();) {
      std::size_t last = w.size();
      for (; last > first; --last) {
        std::string piece(first > 0 ? "##" : "");
        piece.append(bytes, ends[first], ends[last] - ends[first]);
        auto const p = pieces_.find(piece);
        if (p == pieces_.end()) continue;
        found.push_back(p->second);
        break;
      }
      if (last == first) return ids.push_back(unknown_);
      first = last;
    }
    ids.insert(ids.end(), found.begin(), found.end());
  }
};

}  // namespace data
