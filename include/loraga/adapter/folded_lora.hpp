#pragma once
#include <loraga/adapter/lora_passes.hpp>
#include <loraga/linalg/random.hpp>

namespace loraga {

namespace detail {

/// Column i of a x n and of b x n have squared lengths aa and bb: e_i = their product's length.
template <class S, class E>
struct joint_length {
  S aa, bb;
  E e;
  LORAGA_HD void operator()(index_t i, index_t) const {
    double const length = sqrt(aa(i, 0)) * sqrt(bb(i, 0));
    e(i, 0) = static_cast<typename E::value_type>(static_cast<compute_t<typename E::value_type>>(length));
  }
};

/// Columns of x to unit length, those of length 0 to what `other` holds.
template <class S, class O, class X>
struct unit_columns {
  S squares;
  O other;
  X x;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const length = sqrt(squares(j, 0));
    double const value = length > 0 ? as_double(x(i, j)) / length : as_double(other(i, j));
    x(i, j) = static_cast<typename X::value_type>(static_cast<compute_t<typename X::value_type>>(value));
  }
};

}  // namespace detail

/// The base of adapters that keep more numbers between B and A. B' is B multiplied by these numbers.
/// A new adapter has A, B ~ N(0, 0.02^2), drawn by the options' seed, and zeros between them. A start by an initialiser
/// is split: A's rows and B's columns get length 1, and their lengths go to the diagonal of what lies between. A row or
/// column of length 0 gets random values, and 0 on the diagonal. Self, the derived class, has fold(be, B, numbers, B')
/// diagonal(numbers, r), which of the numbers the diagonal is, and gradient_side(B, B'), by which its gradients see dY.
/// math    y = W*x + s*B'*A*drop(x); diagonal_i = |a_i|*|b_i| for a start
/// cost    as lora; a pass forms B'
template <class Self, Element T, class B>
class folded_lora : public lora_passes<T, B> {
  using base = lora_passes<T, B>;

 public:
  using typename base::compute;
  using typename base::space;
  using typename base::tape;

  using base::anchor_again;
  using base::values_changed;
  using base::visit_state;

  /// A, B and what lies between become those of a start, as above. All is made in scratch before anything changes.
  void start(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    scratch<B> temporary(be);
    auto const at = temporary.template matrix<T>(this->in(), this->rank()),
               new_b = temporary.template matrix<T>(this->out(), this->rank()),
               new_folded = temporary.template matrix<T>(this->out(), this->rank());
    auto const rest = this->rest(), new_rest = temporary.template matrix<T>(rest.rows, 1);
    be.copy(a, at.transposed());
    be.copy(b, new_b);
    fill(be, new_rest, 0);
    split(be, at, new_b, Self::diagonal(new_rest, this->rank()));
    Self::fold(be, new_b, new_rest, new_folded);

    base::start(be, at.transposed(), new_b);
    be.copy(new_rest, rest);
    this->values_changed(be);
    if (!this->paired()) return;
    be.copy(at.transposed(), this->a_of(this->start_.view()));  // the same numbers: the difference is exactly 0
    be.copy(new_folded, this->b_of(this->start_.view()));
  }

  /// Y += s*B'*A*drop(X), minus the frozen start where there is one.
  /// errors  as lora's
  template <ViewIn<space> W, ViewIn<space> X, MutableViewIn<space> Y>
  void forward(B& be, W const&, X x, Y y, tape& t) {
    scratch<B> temporary(be);
    matrix_view<T const, space> const now = folded(be, temporary);
    this->forward_through(be, now, x, y, t, 1, {}, Self::gradient_side(this->b(), now));
  }
  /// The same for evaluation, without dropout and without a tape.
  template <ViewIn<space> W, ViewIn<space> X, MutableViewIn<space> Y>
  void forward(B& be, W const& w, X x, Y y) {
    typename base::evaluation_pass const pass(*this);
    forward(be, w, x, y, this->evaluation_);
  }

  /// B' as passes use it, rounded to the storage type.
  matrix<T, B> folded_b(B& be) const {
    matrix<T, B> to(be, this->out(), this->rank());
    fold(be, this->b(), this->rest(), to.view());
    return to;
  }

  /// W += s*B'*A, minus the frozen start where there is one.
  /// errors  as lora's
  template <MutableViewIn<space> W>
  void merge(B& be, W w) {
    auto kept = this->copy_of_values(be);
    add_change(be, w);
    this->merged_ = std::move(kept);
  }
  template <MutableViewIn<space> W>
  void unmerge(B& be, W w) {
    auto const kept = this->merged_values();
    add_values(be, this->a_of(kept), this->b_of(kept), this->rest_of(kept), w, -1);
    this->merged_ = {};
  }
  template <MutableViewIn<space> W>
  void add_change(B& be, W w, double factor = 1) const {
    add_values(be, this->a(), this->b(), this->rest(), w, factor);
  }

  /// Files hold B' for B.
  template <class R>
  void write_record(B& be, R& record) const {
    scratch<B> temporary(be);
    record.a(this->a());
    record.b(folded(be, temporary));
  }
  template <class R>
  void read_record(B& be, R const& record) {
    start(be, record.a(), record.b());
  }

 protected:
  template <Scaling S>
  folded_lora(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options, index_t more,
              bool train_factors)
      : base(be, out, in, rank, scaling, options, more, train_factors), seed_(options.seed) {
    fill_normal(be, this->a(), {seed_, 1}, deviation);
    fill_normal(be, this->b(), {seed_, 2}, deviation);
    this->values_changed(be);
  }

  /// B' as it stands.
  matrix_view<T, space> folded(B& be, scratch<B>& temporary) const {
    auto const to = temporary.template matrix<T>(this->out(), this->rank());
    fold(be, this->b(), this->rest(), to);
    return to;
  }

 private:
  static constexpr double deviation = 0.02;
  std::uint64_t seed_;

  /// lengths_i = |a_i|*|b_i|; columns of AT and B to length 1, or random where they are 0.
  void split(B& be, matrix_view<T, space> at, matrix_view<T, space> b, matrix_view<T, space> lengths) const {
    scratch<B> temporary(be);
    auto const squares_a = temporary.template matrix<double>(this->rank(), 1),
               squares_b = temporary.template matrix<double>(this->rank(), 1);
    auto const random_a = temporary.template matrix<compute>(this->in(), this->rank()),
               random_b = temporary.template matrix<compute>(this->out(), this->rank());
    fill_normal(be, random_a.transposed(), {seed_, 1}, deviation);
    fill_normal(be, random_b, {seed_, 2}, deviation);
    column_dots(be, at, at, squares_a);
    column_dots(be, b, b, squares_b);
    using V = matrix_view<T, space>;
    using S = matrix_view<double, space>;
    using R = matrix_view<compute, space>;
    be.for_each(this->rank(), 1, detail::joint_length<S, V>{squares_a, squares_b, lengths});
    be.for_each(this->in(), this->rank(), detail::unit_columns<S, R, V>{squares_a, random_a, at});
    be.for_each(this->out(), this->rank(), detail::unit_columns<S, R, V>{squares_b, random_b, b});
  }
  static void fold(B& be, matrix_view<T const, space> b, matrix_view<T const, space> numbers,
                   matrix_view<T, space> to) {
    Self::fold(be, b, numbers, to);
  }
  template <class W>
  void add_values(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b, matrix_view<T const, space> rest,
                  W w, double factor) const {
    scratch<B> temporary(be);
    auto const folded_b = temporary.template matrix<T>(this->out(), this->rank());
    fold(be, b, rest, folded_b);
    this->add_product(be, a, folded_b, w, factor);
  }
};

}  // namespace loraga
