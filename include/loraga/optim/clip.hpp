#pragma once
#include <cmath>
#include <loraga/core/range.hpp>
#include <loraga/linalg/grids.hpp>
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

template <class G>
struct square {
  G gradient;
  LORAGA_HD double operator()(index_t i, index_t j) const {
    double const g = as_double(gradient(i, j));
    return g * g;
  }
};

// What a gradient_list does to each of its views.
struct square_each {
  template <class G>
  LORAGA_HD square<G> operator()(G const& gradient) const {
    return {gradient};
  }
};
struct zero_each {
  template <class G>
  LORAGA_HD fill<G> operator()(G const& gradient) const {
    return {gradient, 0};
  }
};
template <class Cell>
struct store_root {
  Cell cell;
  LORAGA_HD void operator()(double sum) const { cell(0, 0) = sqrt(sum); }
};
template <class Cell>
struct clip_each {
  Cell norm;
  double limit;
  template <class G>
  LORAGA_HD clip_to_norm<Cell, G> operator()(G const& gradient) const {
    return {norm, limit, gradient};
  }
};

inline void check_clip(double limit, index_t rows, index_t cols, std::string_view where) {
  require_value(limit > 0, limit, where, "limit", "above 0");
  if (rows != 1 || cols != 1) raise_shape(rows, cols, 1, 1, where, "norm");
}

}  // namespace detail

/// Scales gradients together, so that their joint 2-norm is at most `limit`, and writes the norm they had to `norm`. An
/// adapter's gradient() is its whole gradient as one view.
/// shapes  a contiguous range of views; norm 1x1, in the backend's memory
/// cost    two passes over the gradients; nothing waits. On a GPU some launches for each view: see gradient_list
/// errors  value_error unless limit > 0; shape_error unless norm is 1x1
template <Backend B, ContiguousRange R>
void clip_gradients(B& be, R const& gradients, double limit, matrix_view<double, typename B::space> norm) {
  using V = element_of<R const>;
  auto const all = elements_of(gradients);
  detail::check_clip(limit, norm.rows, norm.cols, "clip_gradients");
  fill(be, norm, 0);
  scratch<B> temporary(be);
  auto const part = temporary.template matrix<double>(1, 1);
  for (std::size_t i = 0; i < all.size(); ++i) {
    sum_of_squares(be, all[i], part);
    be.for_each(1, 1, detail::accumulate_square<decltype(part)>{part, norm, i == 0, i + 1 == all.size()});
  }
  for (auto const& g : all) be.for_each(g.rows, g.cols, detail::clip_to_norm<decltype(norm), V>{norm, limit, g});
}

/// Gradients that are zeroed and clipped together, in a fixed number of launches on a GPU, whatever their number: one
/// to zero, three for the norm, one more to clip. The first call after `add` takes memory.
/// memory  some hundred bytes for each
template <class B, class T = float>
class gradient_list {
  using space = typename B::space;
  using view = matrix_view<T, space>;
  using cell = matrix_view<double, space>;
  grid_list<view, B> grids_;

 public:
  /// Appends a gradient. The view must stay valid.
  /// errors  shape_error for a view that is no matrix
  void add(view gradient) {
    require_matrix(gradient, "gradient_list::add", "gradient");
    if (runs_by_rows(gradient)) gradient = gradient.transposed();
    grids_.add(gradient.rows, gradient.cols, gradient);
  }
  void zero(B& be) { for_each_of(be, grids_, detail::zero_each{}); }  ///< all gradients become 0
  /// norm (1x1, in the backend's memory) = the joint 2-norm.
  /// errors  shape_error
  void joint_norm(B& be, cell norm) {
    require_shape(norm, 1, 1, "gradient_list::joint_norm", "norm");
    sum_of(be, grids_, detail::square_each{}, detail::store_root<cell>{norm});
  }
  /// As clip_gradients.
  /// errors  value_error unless limit > 0; shape_error unless norm is 1x1
  void clip(B& be, double limit, cell norm) {
    detail::check_clip(limit, norm.rows, norm.cols, "gradient_list::clip");
    joint_norm(be, norm);
    for_each_of(be, grids_, detail::clip_each<cell>{norm, limit});
  }
  void make_ready(B& be) { loraga::make_ready(be, grids_); }  ///< takes the memory that the first call would take
};

}  // namespace loraga
