#pragma once
#include <loraga/gradient/dense.hpp>
#include <loraga/linalg/reductions.hpp>

namespace loraga {

/// How input_statistics count a micro-batch.
struct input_options {
  /// Divide every micro-batch by its own largest |x| first, so that one with outliers does not decide alone. CorDA asks
  /// for it.
  bool by_peak = false;
};

namespace detail {

/// mean_j = mean of row j of x, times `scale`
template <class X, class Cell, class D>
struct scaled_row_means : sum_of_doubles {
  X x;  // in x tokens, seen as tokens x in
  Cell scale;
  D d;
  LORAGA_HD double map(index_t i, index_t j) const { return as_double(x(j, i)); }
  LORAGA_HD void finish(index_t j, double sum) const { d(j, 0) = scale(0, 0) * sum / static_cast<double>(x.cols); }
};

/// y = scale*x - mean
template <class X, class Cell, class D, class Y>
struct centred {
  X x;
  Cell scale;
  D mean;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    y(i, j) = static_cast<typename Y::value_type>(scale(0, 0) * as_double(x(i, j)) - mean(i, 0));
  }
};

/// 1/value; 1 for zero, and for NaN, which the data carry on by themselves
template <class Cell>
struct invert_peak {
  Cell cell;
  LORAGA_HD void operator()(index_t, index_t) const { cell(0, 0) = cell(0, 0) > 0 ? 1 / cell(0, 0) : 1.0; }
};

/// y += factor*(a - b)*(a - b)T
template <class A, class C, class Y>
struct add_outer_difference {
  double factor;
  A a;
  C b;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const x = factor * (a(i, 0) - b(i, 0)) * (a(j, 0) - b(j, 0));
    y(i, j) = static_cast<typename Y::value_type>(static_cast<double>(y(i, j)) + x);
  }
};

/// y = scale*(scatter + mass*mean*meanT)
template <class S, class D, class Y>
struct second_moment {
  S scatter;
  double mass;
  D mean;
  double scale;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const x = static_cast<double>(scatter(i, j)) + mass * mean(i, 0) * mean(j, 0);
    y(i, j) = static_cast<typename Y::value_type>(scale * x);
  }
};

/// s = sqrt(s*factor)
template <class S>
struct root_of_multiple {
  double factor;
  S s;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    s(i, j) = static_cast<typename S::value_type>(sqrt(factor * static_cast<double>(s(i, j))));
  }
};

}  // namespace detail

/// cell = sum of a square matrix' diagonal, in double.
template <Backend B, ViewIn<typename B::space> V>
void trace(B& be, V v, matrix_view<double, typename B::space> cell) {
  V const diagonal{v.data, v.rows, 1, v.row_stride + v.col_stride, 0};
  be.reduce_columns(v.rows, 1, detail::total<V, decltype(cell)>{{}, diagonal, cell});
}

/// Mean and scatter of one layer's inputs X, from micro-batches: EVA and CorDA start from them. The scatter is kept
/// centred, and the mean in double: sum(x*xT) - mass*mean*meanT would cancel where the mean is large. After NaN or
/// infinity every answer has a flag that says so.
/// math    mean = sum_i w_i*x_i / mass over all tokens, mass = sum_i w_i;
///         scatter = sum_i w_i*(x_i - mean)*(x_i - mean)T
/// cost    per add 2*in*in*tokens operations
/// memory  in*in numbers; per add scratch for a centred copy of X
/// source  Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979
template <class B, class T = float>
class input_statistics {
  matrix<T, B> scatter_;
  matrix<double, B> mean_;
  input_options options_;
  double weight_ = 0, mass_ = 0;
  index_t count_ = 0;

 public:
  using value_type = T;
  using space = typename B::space;
  /// errors  value_error if features < 1
  input_statistics(B& be, index_t features, input_options options = {})
      : scatter_(be, features, features), mean_(be, features, 1), options_(options) {
    require_value(features >= 1, static_cast<double>(features), "input_statistics", "features", "at least 1");
    reset(be);
  }
  index_t features() const { return mean_.rows(); }                        ///< the layer's inputs
  index_t count() const { return count_; }                                 ///< micro-batches
  double weight() const { return weight_; }                                ///< sum of their weights
  double mass() const { return mass_; }                                    ///< sum of weight*tokens
  bool by_peak() const { return options_.by_peak; }                        ///< as the options say
  matrix_view<T const, space> scatter() const { return scatter_.view(); }  ///< in x in, not divided by mass()
  matrix_view<double const, space> mean() const { return mean_.view(); }   ///< in x 1

  void reset(B& be) {
    fill(be, scatter_.view(), 0);
    fill(be, mean_.view(), 0);
    weight_ = mass_ = 0;
    count_ = 0;
  }

  /// X (in x tokens) of one micro-batch. It does not wait for the backend.
  /// errors  shape_error, or value_error for a weight that is not positive; nothing changes then
  template <ViewIn<space> X>
  void add(B& be, X x, double weight = 1) {
    char const* const where = "input_statistics::add";
    if (x.rows != features() || x.cols < 1)
      raise<shape_error>(where, "X", shape_text(x.rows, x.cols), std::to_string(features()) + " x tokens");
    require_matrix(x, where, "X");
    require_weight(weight, where);
    [[maybe_unused]] auto const precise = be.full_precision();
    scratch<B> temporary(be);
    auto const scale = temporary.template matrix<double>(1, 1);
    auto const mean = temporary.template matrix<double>(x.rows, 1);
    auto const y = temporary.template matrix<T>(x.rows, x.cols);
    using cell = matrix_view<double, space>;
    if (options_.by_peak) {
      max_abs(be, x, scale);
      be.for_each(1, 1, detail::invert_peak<cell>{scale});
    } else {
      loraga::fill(be, scale, 1);
    }
    be.reduce_columns(x.cols, x.rows, detail::scaled_row_means<X, cell, cell>{{}, x, scale, mean});
    be.for_each(y.rows, y.cols, detail::centred<X, cell, cell, decltype(y)>{x, scale, mean, y});
    double const mass = weight * static_cast<double>(x.cols);
    be.gemm(weight, y, y.transposed(), 1.0, scatter_.view());
    join(be, matrix_view<double const, space>(mean), mass);
    weight_ += weight;
    ++count_;
  }

  template <class C>
  void visit_state(C& c) {
    c.same("by_peak", options_.by_peak);
    c("scatter", scatter_.view());
    c("mean", mean_.view());
    c("weight", weight_);
    c("mass", mass_);
    c("count", count_);
  }

  /// Everything `other` saw, as if added here.
  /// errors  shape_error; state_error if only one of the two divides by peaks
  void merge(B& be, input_statistics const& other) {
    require_shape(other.mean(), features(), 1, "input_statistics::merge", "other");
    if (other.by_peak() != by_peak())
      raise<state_error>("input_statistics::merge", "other", by_peak() ? "not by_peak" : "by_peak", "of the same kind");
    if (other.count_ == 0) return;
    axpby(be, 1.0, other.scatter(), 1.0, scatter_.view());
    join(be, other.mean(), other.mass_);
    weight_ += other.weight_;
    count_ += other.count_;
  }

  /// The second moment, not centred, per micro-batch.
  /// math    to = sum_b w_b*X_b*X_bT / sum_b w_b
  /// errors  shape_error; state_error if it is empty
  void second_moment(B& be, matrix_view<double, space> to) const {
    require_shape(to, features(), features(), "input_statistics::second_moment", "to");
    if (count_ == 0)
      raise<state_error>("input_statistics::second_moment", "statistics", "empty", "at least one micro-batch added");
    be.for_each(to.rows, to.cols,
                detail::second_moment<decltype(scatter()), decltype(mean()), decltype(to)>{scatter(), mass_, mean(),
                                                                                           1 / weight_, to});
  }

  /// The k principal directions of every member's inputs, as u and as v, their standard deviations s, and the whole
  /// variance as energy. So `coverage` is EVA's explained variance.
  /// math    the triplets of the centred inputs divided by sqrt(mass)
  /// loss    in float directions below about 3e-4 of the largest deviation are noise
  /// errors  state_error if a member is empty, shape_error if shapes differ; numeric faults are flags of the result
  template <class Svd>
  static svd_result<T, B> top(B& be, Svd const& svd, std::span<input_statistics const* const> batch, index_t k) {
    std::vector<matrix_view<T const, space>> scatters;
    for (auto const* s : batch) {
      if (s->count_ == 0)
        raise<state_error>("input_statistics::top", "statistics", "empty", "at least one micro-batch added");
      scatters.push_back(s->scatter());
    }
    auto result = svd.top(be, view_list(scatters.data(), static_cast<index_t>(scatters.size())), k);
    std::vector<double> traces;
    {
      scratch<B> temporary(be);
      auto const cells = temporary.template matrix<double>(static_cast<index_t>(batch.size()), 1);
      for (std::size_t i = 0; i < batch.size(); ++i)
        trace(be, scatters[i], cells.row_range(static_cast<index_t>(i), 1));
      traces = read_all(be, cells);
    }
    for (std::size_t i = 0; i < batch.size(); ++i) {
      auto const s = result[static_cast<index_t>(i)].s;
      be.for_each(s.rows, 1, detail::root_of_multiple<decltype(s)>{1 / batch[i]->mass_, s});
      result.energy[i] = traces[i] / batch[i]->mass_;
    }
    return result;
  }
  template <class Svd>
  svd_result<T, B> top(B& be, Svd const& svd, index_t k) const {
    input_statistics const* const self[] = {this};
    return top(be, svd, self, k);
  }

 private:
  /// The mean moves, and the scatter gains what lies between the means, for `mass` of tokens with that mean.
  void join(B& be, matrix_view<double const, space> mean, double mass) {
    double const sum = mass_ + mass;
    auto const here = mean_.view();
    auto const s = scatter_.view();
    be.for_each(
        s.rows, s.cols,
        detail::add_outer_difference<decltype(mean), decltype(here), decltype(s)>{mass_ * mass / sum, mean, here, s});
    axpby(be, mass / sum, mean, mass_ / sum, here);
    mass_ = sum;
  }
};

}  // namespace loraga
