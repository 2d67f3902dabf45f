#pragma once
#include <loraga/gradient/incremental.hpp>
#include <span>
#include <string>

namespace loraga {

/// A layer's sizes: W is out x in.
struct layer_size {
  index_t out = 0, in = 0;
};

/// How far an estimate turned with the last micro-batch, over a model's layers: see incremental_gradient::turn.
struct gradient_turn {
  double mean = 0;     ///< root of the mean square over layers; NaN before there are two micro-batches
  double largest = 0;  ///< of one layer
};

/// The mean gradients of all layers of a model, none of which is ever formed: an incremental_gradient for each. Feed
/// every layer's (dY, X) of a micro-batch to its member; after a micro-batch `turn` says whether another one is worth
/// it.
/// memory  `bytes`, known from the shapes; while one layer is updated scratch of the largest layer's size, shared by all
template <class B, class T = float>
class model_gradient {
  std::vector<incremental_gradient<B, T>> members_;
  std::int64_t bytes_;

  static index_t width_of(layer_size const& l, gradient_options const& o) {
    return std::min({o.width ? o.width : 4 * o.rank, l.out, l.in});
  }

 public:
  /// What the estimate keeps between micro-batches: width*(out + in + 1) numbers per layer, width = 4*rank unless it is
  /// said.
  static std::int64_t bytes(std::span<layer_size const> layers, gradient_options const& options = {}) {
    std::int64_t numbers = 0;
    for (auto const& l : layers) numbers += width_of(l, options) * (l.out + l.in + 1);
    return numbers * static_cast<std::int64_t>(sizeof(T));
  }
  /// errors  as incremental_gradient's constructor
  model_gradient(B& be, std::span<layer_size const> layers, gradient_options options = {})
      : bytes_(bytes(layers, options)) {
    members_.reserve(layers.size());
    for (auto const& l : layers) {
      members_.emplace_back(be, l.out, l.in, options);
      options.seed = derive({options.seed, members_.size()}, 0).id;  // no two layers draw the same numbers
    }
  }
  /// The same of this one.
  std::int64_t bytes() const { return bytes_; }
  /// How many layers there are.
  index_t size() const { return static_cast<index_t>(members_.size()); }
  incremental_gradient<B, T>& operator[](index_t i) { return members_[static_cast<std::size_t>(i)]; }
  incremental_gradient<B, T> const& operator[](index_t i) const { return members_[static_cast<std::size_t>(i)]; }

  /// By how much the last micro-batch turned the layers' leading subspaces. Layers that have seen fewer than two count
  /// as not known: then the mean is NaN.
  gradient_turn turn() const {
    gradient_turn t;
    double sum = 0;
    for (auto const& m : members_) {
      sum += m.turn() * m.turn();
      t.largest = std::max(t.largest, m.turn());
    }
    t.mean = std::sqrt(sum / static_cast<double>(members_.size()));
    return t;
  }
  /// Whether the last micro-batch turned them by less than `tolerance` on average: then more of them change little.
  /// errors  value_error for a tolerance that is not positive
  bool settled(double tolerance) const {
    require_value(tolerance > 0, tolerance, "model_gradient::settled", "tolerance", "above 0");
    return turn().mean < tolerance;
  }

  template <class C>
  void visit_state(C& c) {
    for (std::size_t i = 0; i < members_.size(); ++i) c("layer" + std::to_string(i), members_[i]);
  }
};

}  // namespace loraga
