#pragma once
#include "../data/token_set.hpp"
#include "decoder_file.hpp"

namespace model {

/// What a streamed estimate took.
struct estimate_report {
  std::int64_t bytes = 0;       ///< that it keeps between batches, by its formula
  std::int64_t measured = 0;    ///< that it allocated on the host, with its scratch
  index_t batches = 0;          ///< that it took
  std::vector<double> turns{};  ///< how far the last piece of each batch after the first turned it, on average
  bool settled = false;         ///< it ended before the sample did
  double seconds = 0;
};

/// A decoder as the training sees it: nothing but adapters trains, and a batch of items is cut into pieces of at most
/// `most_tokens` tokens, whose gradients add up. A longer item is a piece of its own.
template <class B>
class language_model {
 public:
  using batch_type = std::vector<data::token_item const*>;
  struct shape_type {
    loraga::base_model const* base = nullptr;
    decoder_shape sizes = {};
    index_t most_tokens = 256;
  };
  using gradient_type = loraga::incremental_gradient<B>;
  static constexpr bool is_frozen = true;  // adapters' starts are anchored by a frozen pair

  decoder<B> network;
  index_t tokens = 0;        ///< that went through so far
  estimate_report estimate;  ///< the last one's

  language_model(B& be, shape_type const& s) : network(be, *s.base, s.sizes), most_tokens_(s.most_tokens) {}
  std::vector<frozen_linear<B>*> linears() { return network.linears(); }
  std::vector<tensor<B>*> tensors() { return {}; }
  void randomise_head(B&, loraga::random_stream) {}

  /// errors  value_error for a batch that run would cut into pieces
  void require_one_piece(batch_type const& items) const {
    index_t size = 0;
    for (auto const* i : items) size += static_cast<index_t>(i->tokens.size()) - 1;
    if (items.size() > 1 && size > most_tokens_)
      loraga::raise<loraga::value_error>("language_model", "tokens at a time", std::to_string(most_tokens_),
                                         "at least " + std::to_string(size) + ", for a batch that must not be cut");
  }
  /// Loss and hits of a batch. With `learn`, gradients of its mean loss are added to everything trainable.
  loss_result run(B& be, batch_type const& items, bool learn) {
    index_t labels = 0;
    for (auto const* i : items) labels += static_cast<index_t>(i->tokens.size()) - i->prompt;
    double const weight = learn ? 1 / static_cast<double>(labels) : 0;
    loss_result total;
    batch_type piece;
    index_t size = 0;
    auto const send = [&] {
      if (!piece.empty()) total += network.run(be, buffer_.pick(be, piece), weight);
      piece.clear();
      tokens += std::exchange(size, 0);
    };
    for (auto const* i : items) {
      auto const n = static_cast<index_t>(i->tokens.size()) - 1;
      if (size + n > most_tokens_) send();
      piece.push_back(i);
      size += n;
    }
    send();
    return total;
  }

  /// What the model says after a prompt, word by the likeliest word, up to `most` tokens or the token `end`.
  std::vector<index_t> answer(B& be, std::vector<index_t> next, index_t end, index_t most) {
    auto kept = network.make_cache(be, static_cast<index_t>(next.size()) + most);
    matrix<float, B> logits(be, network.shape.vocabulary, 1);
    std::vector<index_t> said;
    while (static_cast<index_t>(said.size()) < most) {
      network.extend(be, buffer_.next(be, next, kept.tokens), kept, logits.view());
      auto const values = loraga::read_all(be, logits.view());
      auto const id = static_cast<index_t>(std::max_element(values.begin(), values.end()) - values.begin());
      if (id == end) break;
      said.push_back(id);
      next = {id};
    }
    return said;
  }

 private:
  index_t most_tokens_;
  data::token_buffer<B> buffer_;
};

}  // namespace model
