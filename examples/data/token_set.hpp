#pragma once
#include <algorithm>

#include "../model/decoder_block.hpp"
#include "parts.hpp"
#include "sampler.hpp"

namespace data {

using loraga::index_t;

/// A sequence to train on: a prompt, and the answer that the model is to learn.
struct token_item {
  std::vector<index_t> tokens;
  index_t prompt = 0;  ///< how many of them are the prompt's; at least one
};

/// Sequences on the host.
class token_set {
  std::vector<token_item> items_;

 public:
  /// What a batch is until a model cuts it into pieces: the model knows how many tokens it has memory for.
  template <class B>
  struct buffer {
    std::vector<token_item const*> pick(B&, token_set const& set, std::vector<index_t> const& items) const {
      std::vector<token_item const*> all;
      for (index_t const i : items) all.push_back(&set.items_[static_cast<std::size_t>(i)]);
      return all;
    }
  };
  void add(token_item item) { items_.push_back(std::move(item)); }
  index_t count() const { return static_cast<index_t>(items_.size()); }
  token_item const& operator[](index_t i) const { return items_[static_cast<std::size_t>(i)]; }
  /// How many tokens are to be foretold of these items: what their mean loss is taken over.
  index_t labels(std::vector<index_t> const& items) const {
    index_t n = 0;
    for (index_t const i : items) n += static_cast<index_t>((*this)[i].tokens.size()) - (*this)[i].prompt;
    return n;
  }

  /// Items first ... first+n-1, those of like length together.
  std::vector<std::vector<index_t>> to_evaluate(index_t first, index_t n, bool) const {
    std::vector<index_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), first);
    std::stable_sort(order.begin(), order.end(),
                     [&](index_t a, index_t b) { return (*this)[a].tokens.size() < (*this)[b].tokens.size(); });
    return {order};
  }
};

/// Brings batches of sequences to a backend. A batch lives until the next one.
template <class B>
class token_buffer {
  loraga::matrix<index_t, B> memory_;

 public:
  /// The items side by side, every answer's tokens to be foretold from those before them.
  model::token_batch<typename B::space> pick(B& be, std::vector<token_item const*> const& items) {
    std::vector<index_t> ids, spans, sequences, chosen, labels;
    index_t longest = 0;
    for (auto const* item : items) {
      auto const first = static_cast<index_t>(ids.size()), n = static_cast<index_t>(item->tokens.size()) - 1;
      ids.insert(ids.end(), item->tokens.begin(), item->tokens.end() - 1);  // nothing follows the last one
      for (index_t t = first; t < first + n; ++t) {
        spans.insert(spans.end(), {first, t + 1});
        sequences.insert(sequences.end(), {first, first + n});
      }
      for (index_t t = item->prompt - 1; t < n; ++t) {
        chosen.push_back(first + t);
        labels.push_back(item->tokens[static_cast<std::size_t>(t) + 1]);
      }
      longest = std::max(longest, n);
    }
    return send(be, {&ids, &spans, &sequences, &chosen, &labels}, longest);
  }
  /// The next tokens of one sequence, `past` tokens of which went before.
  model::token_batch<typename B::space> next(B& be, std::vector<index_t> const& tokens, index_t past) {
    std::vector<index_t> spans, none;
    for (std::size_t t = 0; t < tokens.size(); ++t) spans.insert(spans.end(), {0, past + static_cast<index_t>(t) + 1});
    return send(be, {&tokens, &spans, &none, &none, &none}, past + static_cast<index_t>(tokens.size()));
  }

 private:
  model::token_batch<typename B::space> send(B& be, std::array<std::vector<index_t> const*, 5> const& parts,
                                             index_t longest) {
    std::vector<index_t> all;  // one copy for all
    for (auto const* part : parts) all.insert(all.end(), part->begin(), part->end());
    auto const size = static_cast<index_t>(all.size());
    if (memory_.rows() < size) memory_ = loraga::matrix<index_t, B>(be, size, 1);
    be.copy(loraga::col_major(all.data(), size, 1), memory_.view().row_range(0, size));
    be.synchronize();  // the host's memory ends with the call
    index_t const* p = memory_.view().data;
    auto const take = [&](std::size_t part, index_t rows) {
      auto const cols = static_cast<index_t>(parts[part]->size()) / rows;
      loraga::matrix_view<index_t const, typename B::space> const v{p, rows, cols, 1, rows};
      p += rows * cols;
      return v;
    };
    auto const ids = take(0, 1), spans = take(1, 2), sequences = take(2, 2), chosen = take(3, 1);
    return {ids, spans, sequences, chosen, take(4, 1), longest};
  }
};

}  // namespace data
