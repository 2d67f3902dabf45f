#pragma once
#include <loraga/core/range.hpp>
#include <loraga/linalg/reductions.hpp>
#include <span>

namespace loraga {

namespace detail {

template <class Cell>
struct accumulate_square {  // total = last ? sqrt(total + part) : total + part
  Cell part, total;
  bool first, last;
  LORAGA_HD void operator()(index_t, index_t) const {
    double const sum = (first ? 0.0 : total(0, 0)) + part(0, 0);
    total(0, 0) = last ? sqrt(sum) : sum;
  }
};

template <class Cell, class G>
struct clip_to_norm {
  Cell norm;
  double limit;
  G gradient;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    if (!(norm(0, 0) > limit)) return;
    gradient(i, j) = static_cast<typename G::value_type>(gradient(i, j) * (limit / norm(0, 0)));
  }
};

}  // namespace detail

/// Scales gradients together, so that their joint 2-norm is at most `limit`, and writes the norm they had to `norm`. An
/// adapter's gradient() is its whole gradient as one view.
/// shapes  a contiguous range of views; norm 1x1, in the backend's memory
/// cost    two passes over the gradients; nothing waits
/// errors  value_error unless limit > 0; shape_error unless norm is 1x1
template <Backend B, ContiguousRange R>
void clip_gradients(B& be, R const& gradients, double limit, matrix_view<double, typename B::space> norm) {
  using V = element_of<R const>;
  auto const all = elements_of(gradients);
  require_value(limit > 0, limit, "clip_gradients", "limit", "above 0");
  require_shape(norm, 1, 1, "clip_gradients", "norm");
  fill(be, norm, 0);
  scratch<B> temporary(be);
  auto const part = temporary.template matrix<double>(1, 1);
  for (std::size_t i = 0; i < all.size(); ++i) {
    sum_of_squares(be, all[i], part);
    be.for_each(1, 1, detail::accumulate_square<decltype(part)>{part, norm, i == 0, i + 1 == all.size()});
  }
  for (auto const& g : all) be.for_each(g.rows, g.cols, detail::clip_to_norm<decltype(norm), V>{norm, limit, g});
}

}  // namespace loraga
