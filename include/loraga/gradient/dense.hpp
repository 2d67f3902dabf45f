#pragma once
#include <limits>
#include <loraga/linalg/elementwise.hpp>
#include <span>

namespace loraga {

/// Throws unless weight is positive and finite in float: a weight of 0, or NaN, would silently drop a micro-batch.
inline void require_weight(double weight, std::string_view where) {
  using limits = std::numeric_limits<float>;
  require_value(is_finite(weight) && weight >= limits::min() && weight <= limits::max(), weight, where, "weight",
                "a positive finite number");
}

/// Throws state_error if an accumulator saw nothing.
inline void require_seen(index_t count, std::string_view where) {
  if (count == 0) raise<state_error>(where, "accumulator", "empty", "at least one micro-batch added");
}

/// Throws state_error for accumulators that saw nothing, shape_error for a batch of unequal shapes.
template <class G>
void require_readable(std::span<G const* const> batch, std::string_view where) {
  for (G const* g : batch) {
    require_seen(g->count(), where);
    if (g->rows() != batch[0]->rows() || g->cols() != batch[0]->cols())
      raise<shape_error>(where, "accumulator", shape_text(g->rows(), g->cols()),
                         shape_text(batch[0]->rows(), batch[0]->cols()));
  }
}

/// How an incremental_gradient is kept. dense_gradient and sign_gradient take these options too and ignore them, so
/// that one can replace the other.
struct gradient_options {
  index_t rank = 8;     ///< the adapter's r; LoRA-GA asks for 2r triplets
  index_t width = 0;    ///< triplets kept between micro-batches, the most there are to ask for; 0 means 4*rank
  int power_steps = 0;  ///< further passes over each micro-batch beyond two, for more accuracy
  std::uint64_t seed = 0;
};

/// The mean gradient itself, summed in T. T is float or double: in 16 bit 64 micro-batches lose 0.8 %.
/// math    G = sum_i weight_i*dW_i / sum_i weight_i
/// cost    one pass over the sum per micro-batch
/// memory  out*in numbers
template <class B, class T = float>
class dense_gradient {
  matrix<T, B> sum_;
  double weight_ = 0;
  index_t count_ = 0;

 public:
  using value_type = T;
  using space = typename B::space;
  static constexpr bool takes_unread = true;  ///< `top` hands on what the method gives, flags unseen
  dense_gradient(B& be, index_t out, index_t in, gradient_options const& = {}) : sum_(be, out, in) {
    require_value(out >= 1 && in >= 1, static_cast<double>(std::min(out, in)), "dense_gradient", "out or in",
                  "at least 1");
    reset(be);
  }
  index_t rows() const { return sum_.rows(); }
  index_t cols() const { return sum_.cols(); }
  index_t count() const { return count_; }
  double weight() const { return weight_; }

  void reset(B& be) {
    fill(be, sum_.view(), 0);
    weight_ = 0;
    count_ = 0;
  }

  /// dW (out x in) of one micro-batch.
  /// errors  shape_error, or value_error for a weight that is not positive; nothing changes then
  template <ViewIn<space> V>
  void add(B& be, V dw, double weight = 1) {
    require_shape(dw, rows(), cols(), "dense_gradient::add", "dW");
    require_matrix(dw, "dense_gradient::add", "dW");
    require_weight(weight, "dense_gradient::add");
    axpby(be, weight, dw, 1.0, sum_.view());
    weight_ += weight;
    ++count_;
  }

  /// dW = dY*XT of one micro-batch.
  /// shapes  dY out x tokens, X in x tokens
  /// errors  as add
  template <ViewIn<space> Y, ViewIn<space> X>
  void add_outer(B& be, Y dy, X x, double weight = 1) {
    require_shape(dy, rows(), x.cols, "dense_gradient::add_outer", "dY");
    require_shape(x, cols(), dy.cols, "dense_gradient::add_outer", "X");
    require_weight(weight, "dense_gradient::add_outer");
    be.gemm(weight, dy, x.transposed(), 1.0, sum_.view());
    weight_ += weight;
    ++count_;
  }

  /// Everything `other` saw, as if added here.
  /// errors  shape_error
  void merge(B& be, dense_gradient const& other) {
    require_shape(other.sum(), rows(), cols(), "dense_gradient::merge", "other");
    axpby(be, 1.0, other.sum(), 1.0, sum_.view());
    weight_ += other.weight_;
    count_ += other.count_;
  }

  /// The weighted sum, not yet divided by weight(): what the processes of a data-parallel job add up.
  matrix_view<T const, space> sum() const { return sum_.view(); }

  template <class C>
  void visit_state(C& c) {
    c("sum", sum_.view());
    c("weight", weight_);
    c("count", count_);
  }

  /// to = the mean.
  /// errors  state_error if there is none yet; shape_error
  void estimate(B& be, matrix_view<T, space> to) const {
    require_seen(count_, "dense_gradient::estimate");
    require_shape(to, rows(), cols(), "dense_gradient::estimate", "to");
    axpby(be, 1 / weight_, sum(), 0.0, to);
  }

  /// k leading triplets of every member's mean; see GradientAccumulator.
  /// errors  state_error if a member is empty, shape_error if shapes differ; numeric faults are flags of the result
  template <class Svd>
  static svd_result<T, B> top(B& be, Svd const& svd, std::span<dense_gradient const* const> batch, index_t k) {
    require_readable(batch, "dense_gradient::top");
    std::vector<matrix_view<T const, space>> sums;
    for (auto const* g : batch) sums.push_back(g->sum());
    auto result = svd.top(be, view_list(sums.data(), static_cast<index_t>(sums.size())), k);
    detail::in_step(be, result.count(), [&](B& one, index_t b) {
      auto const i = static_cast<std::size_t>(b);
      double const w = batch[i]->weight_;
      auto const s = result[b].s;
      axpby(one, 1 / w, s, 0.0, s);
      result.energy[i] /= w * w;
    });
    return result;
  }
  template <class Svd>
  svd_result<T, B> top(B& be, Svd const& svd, index_t k) const {
    dense_gradient const* const self[] = {this};
    return top(be, svd, self, k);
  }
};

}  // namespace loraga
