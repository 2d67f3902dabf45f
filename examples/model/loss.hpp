#pragma once
#include "layers.hpp"

namespace model {

struct loss_result {
  double loss_sum = 0;
  index_t correct = 0, count = 0;
  double mean() const { return loss_sum / static_cast<double>(count); }
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(count); }
  loss_result& operator+=(loss_result const& o) {
    loss_sum += o.loss_sum;
    correct += o.correct;
    count += o.count;
    return *this;
  }
};

/// Cross-entropy of logits (classes x count) against labels (1 x count); the gradient of the mean takes the logits'
/// place. Waits for the backend.
template <class B, class Labels>
loss_result cross_entropy(B& be, matrix_view<float, typename B::space> logits, Labels labels) {
  using column = matrix_view<double, typename B::space>;
  loraga::scratch<B> temporary(be);
  auto const each = temporary.template matrix<double>(logits.cols, 2), total = temporary.template matrix<double>(2, 1);
  be.for_each(1, logits.cols,
              functor::cross_entropy<Labels, column>{logits, labels, each.columns(0, 1), each.columns(1, 1)});
  be.reduce_columns(logits.cols, 2, functor::total<column>{each, total});
  auto const sums = loraga::read_all(be, total);
  return {sums[0], static_cast<index_t>(sums[1]), logits.cols};
}

}  // namespace model
