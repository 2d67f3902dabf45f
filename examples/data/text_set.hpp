#pragma once
#include "../model/encoder_block.hpp"
#include "parts.hpp"
#include "sampler.hpp"

namespace data {

template <class B>
class text_buffer;

/// Token sequences with labels, on the host.
class text_set {
  std::vector<std::vector<index_t>> tokens_;
  std::vector<index_t> labels_;

 public:
  template <class B>
  using buffer = text_buffer<B>;
  void add(std::vector<index_t> tokens, index_t label) {
    tokens_.push_back(std::move(tokens));
    labels_.push_back(label);
  }
  index_t count() const { return static_cast<index_t>(labels_.size()); }
  std::vector<index_t> const& tokens(index_t i) const { return tokens_[static_cast<std::size_t>(i)]; }
  index_t label(index_t i) const { return labels_[static_cast<std::size_t>(i)]; }

  /// Items first ... first+n-1 in batches of like length, so that a batch's work is even.
  std::vector<std::vector<index_t>> by_length(index_t first, index_t n, index_t batch) const {
    std::vector<index_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), first);
    std::stable_sort(order.begin(), order.end(),
                     [&](index_t a, index_t b) { return tokens(a).size() < tokens(b).size(); });
    std::vector<std::vector<index_t>> batches;
    for (std::size_t i = 0; i < order.size(); i += static_cast<std::size_t>(batch)) {
      auto const last = std::min(order.size(), i + static_cast<std::size_t>(batch));
      batches.emplace_back(order.begin() + static_cast<std::ptrdiff_t>(i),
                           order.begin() + static_cast<std::ptrdiff_t>(last));
    }
    return batches;
  }
  /// The activations of few snippets stay in a CPU core's own cache; a GPU needs many to be busy.
  std::vector<std::vector<index_t>> to_evaluate(index_t first, index_t n, bool on_host) const {
    return by_length(first, n, on_host ? 16 : 256);
  }
};

/// A set's parts; no document is in two of them.
struct text_parts : parts<text_set> {
  index_t snippets = 0, dropped = 0, cut = 0,
          positive = 0;  // in the file; near zero; longer than the cap; of those kept
};

/// Brings batches of a set to a backend. A batch lives until the next one.
template <class B>
class text_buffer {
  using host = std::vector<index_t>;
  loraga::matrix<index_t, B> memory_;

 public:
  model::text_batch<typename B::space> pick(B& be, text_set const& set, std::vector<index_t> const& items) {
    host ids, spans, sequences, labels;
    index_t longest = 0;
    for (index_t const i : items) {
      auto const& t = set.tokens(i);
      auto const first = static_cast<index_t>(ids.size()), n = static_cast<index_t>(t.size());
      ids.insert(ids.end(), t.begin(), t.end());
      for (index_t k = 0; k < n; ++k) spans.insert(spans.end(), {first, first + n});
      sequences.insert(sequences.end(), {first, first + n});
      labels.push_back(set.label(i));
      longest = std::max(longest, n);
    }
    auto const tokens = static_cast<index_t>(ids.size()), count = static_cast<index_t>(items.size());
    host all;  // one copy for all
    for (auto const* part : {&ids, &spans, &sequences, &labels}) all.insert(all.end(), part->begin(), part->end());
    auto const size = static_cast<index_t>(all.size());
    if (memory_.rows() < size) memory_ = loraga::matrix<index_t, B>(be, size, 1);
    be.copy(loraga::col_major(all.data(), size, 1), memory_.view().row_range(0, size));
    be.synchronize();  // the host's memory ends with the call
    index_t const* p = memory_.view().data;
    auto const next = [&](index_t rows, index_t cols) {
      loraga::matrix_view<index_t const, typename B::space> const v{p, rows, cols, 1, rows};
      p += rows * cols;
      return v;
    };
    auto const ids_view = next(1, tokens), spans_view = next(2, tokens), sequence_view = next(2, count);
    return {ids_view, spans_view, sequence_view, next(1, count), longest};
  }
};

}  // namespace data
