#pragma once
#include "../data/byte_pairs.hpp"
#include "../data/dictd.hpp"
#include "../data/token_set.hpp"

// Definitions as sequences of tokens: the term as the user's question, the definition as the assistant's answer.

namespace language {

using loraga::index_t;

struct dictionary : data::parts<data::token_set> {
  std::vector<data::definition> held_out;  // of the test part, in its order
  index_t cut = 0;                         // definitions longer than the cap
};

/// The tokenizer that a base brings along.
/// errors  as read_byte_pairs
inline data::byte_pairs read_tokenizer(loraga::base_model const& base) {
  if (auto const* gguf = base.in_gguf()) return data::byte_pairs(data::read_byte_pairs(*gguf));
  return data::byte_pairs(data::read_byte_pairs(base.in_safetensors()->folder() / "tokenizer.json"));
}

/// How a model is asked.
class questions {
  data::byte_pairs const& tokenizer_;
  index_t begin_, end_;

 public:
  /// errors  format_error for a vocabulary without the special tokens of a dialogue
  explicit questions(data::byte_pairs const& tokenizer, std::string const& where)
      : tokenizer_(tokenizer), begin_(tokenizer.special("<|im_start|>")), end_(tokenizer.special("<|im_end|>")) {
    if (begin_ < 0 || end_ < 0)
      loraga::raise<loraga::format_error>(where, "tokenizer", "no <|im_start|> and <|im_end|>",
                                          "a model for dialogues in ChatML");
  }
  index_t end() const { return end_; }
  std::vector<index_t> prompt(std::string const& term) const {
    std::vector<index_t> ids{begin_};
    add(ids, "user\nDefine: " + term);
    ids.push_back(end_);
    add(ids, "\n");
    ids.push_back(begin_);
    add(ids, "assistant\n");
    return ids;
  }
  /// Question and answer; one that is cut does not end.
  data::token_item item(data::definition const& d, index_t longest) const {
    data::token_item one{prompt(d.term), 0};
    one.prompt = static_cast<index_t>(one.tokens.size());
    auto answer = tokenizer_.encode(d.text);
    if (static_cast<index_t>(answer.size()) >= longest) answer.resize(static_cast<std::size_t>(longest));
    else answer.push_back(end_);
    one.tokens.insert(one.tokens.end(), answer.begin(), answer.end());
    return one;
  }

 private:
  void add(std::vector<index_t>& ids, std::string const& text) const {
    auto const more = tokenizer_.encode(text);
    ids.insert(ids.end(), more.begin(), more.end());
  }
};

/// The definitions in an order that their number alone decides: `held_out` of them to test, as many to validate, the
/// rest to train.
/// errors  runtime_error for fewer definitions than that
inline dictionary read_dictionary(std::vector<data::definition> all, questions const& ask, index_t held_out,
                                  index_t longest) {
  if (std::ssize(all) < 3 * held_out)
    throw std::runtime_error("the dictionary has " + std::to_string(all.size()) + " definitions, expected at least " +
                             std::to_string(3 * held_out) + " with --held-out " + std::to_string(held_out));
  data::shuffle(all, {1, 1});
  dictionary d;
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto item = ask.item(all[i], longest);
    d.cut += item.tokens.back() != ask.end();
    auto const n = static_cast<index_t>(i);
    auto& part = n < held_out ? d.test : n < 2 * held_out ? d.validation : d.train;
    if (&part == &d.test) d.held_out.push_back(all[i]);
    part.add(std::move(item));
  }
  return d;
}

}  // namespace language
