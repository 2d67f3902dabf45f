#pragma once
#include <loraga/adapter/lora.hpp>
#include <loraga/adapter/orthonormality.hpp>
#include <loraga/linalg/random.hpp>

namespace loraga {

namespace functor {

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

/// out(:, i) = e_i*b(:, i), rounded to the storage type.
template <class Bv, class E, class O>
struct fold_columns {
  Bv b;
  E e;
  O out;
  LORAGA_HD void operator()(index_t j, index_t i) const {
    using C = compute_t<typename O::value_type>;
    out(j, i) = static_cast<typename O::value_type>(static_cast<C>(b(j, i)) * static_cast<C>(e(i, 0)));
  }
};

/// db(:, i) += e_i*d(:, i)
template <class D, class E, class G>
struct unfold_gradient {
  D d;
  E e;
  G db;
  LORAGA_HD void operator()(index_t j, index_t i) const {
    db(j, i) += d(j, i) * static_cast<typename G::value_type>(e(i, 0));
  }
};

/// x(:, i) = 0 where keep_i is 0.
template <class K, class X>
struct drop_columns {
  K keep;
  X x;
  LORAGA_HD void operator()(index_t j, index_t i) const {
    if (keep(i, 0) == 0) x(j, i) = typename X::value_type{};
  }
};

}  // namespace functor

/// AdaLoRA's layer: y = W*x + s*B*diag(E)*A*drop(x), whose triplets adalora_budget prunes by setting E_i = 0.
/// shapes  as lora; e() r x 1
/// A new one has A, B ~ N(0, 0.02^2) by the options' seed and E = 0, which is AdaLoRA's own start. A start given by an
/// initialiser is split: E_i = |a_i|*|b_i|, with A's rows and B's columns of length 1 (what the orthogonality term
/// pulls to); a factor that is 0 keeps random values, and E_i = 0. The start is anchored by a frozen pair only: pruning
/// would have to change W again.
/// source  arXiv:2303.10512, in the form of huggingface/peft
template <Element T, class B>
class adalora : public lora<T, B> {
  using base = lora<T, B>;

 public:
  using base::in;
  using base::merged;
  using base::out;
  using base::paired;
  using base::rank;
  using typename base::compute;
  using typename base::space;
  using typename base::tape;

  /// errors  as lora
  template <Scaling S>
  adalora(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options = {})
      : base(be, out, in, rank, scaling, options, rank), seed_(options.seed) {
    fill_normal(be, this->a(), {seed_, 1}, deviation);
    fill_normal(be, this->b(), {seed_, 2}, deviation);
    this->values_changed(be);
  }

  matrix_view<T, space> e() { return this->rest_of(this->values_.view()); }
  matrix_view<T const, space> e() const { return this->rest_of(this->values_.view()); }
  std::array<parameter<T, space>, 3> parameters() {
    auto const [a, b] = this->factor_parameters();
    return {a,
            b,
            {"lora_E", parameter_kind::other, e(), this->rest_of(this->gradients_.view()),
             this->rest_of(this->masters_.view())}};
  }

  /// As above; takes no memory but scratch.
  void start(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    scratch<B> temporary(be);
    auto const at = this->a().transposed();
    auto const squares_a = temporary.template matrix<double>(rank(), 1),
               squares_b = temporary.template matrix<double>(rank(), 1);
    auto const random_a = temporary.template matrix<compute>(in(), rank()),
               random_b = temporary.template matrix<compute>(out(), rank());
    fill_normal(be, random_a.transposed(), {seed_, 1}, deviation);
    fill_normal(be, random_b, {seed_, 2}, deviation);
    column_dots(be, a.transposed(), a.transposed(), squares_a);
    column_dots(be, b, b, squares_b);
    base::start(be, a, b);
    using S = decltype(squares_a);
    using R = decltype(random_a);
    be.for_each(rank(), 1, functor::joint_length<S, decltype(e())>{squares_a, squares_b, e()});
    be.for_each(in(), rank(), functor::unit_columns<S, R, decltype(at)>{squares_a, random_a, at});
    be.for_each(out(), rank(), functor::unit_columns<S, R, decltype(at)>{squares_b, random_b, this->b()});
    this->values_changed(be);
    if (!paired()) return;
    be.copy(this->a(), this->a_of(this->start_.view()));  // the same numbers, so that the difference is exactly 0
    fold(be, this->b(), e(), this->b_of(this->start_.view()));
  }
  template <MutableViewIn<space> W>
  void subtract_start(B&, W, matrix_view<T const, space>, matrix_view<T const, space>) {
    raise<state_error>("adalora::subtract_start", "anchor", "in place",
                       "frozen_pair_anchor: pruning changes the start");
  }

  /// Y += s*B*diag(E)*A*drop(X), minus the frozen start where there is one.  errors  shape_error, alias_error
  template <ViewIn<space> W, ViewIn<space> X, MutableViewIn<space> Y>
  void forward(B& be, W const&, X x, Y y, tape& t) {
    scratch<B> temporary(be);
    this->forward_through(be, folded_b(be, temporary), x, y, t);
  }
  /// math    D = s*dY*(A*drop(X))T; dB += D*diag(E); dE_i += B_iT*D_i; dA, dX as lora's with B*diag(E)
  /// Returns dY.  errors  as lora's
  template <ViewIn<space> W, ViewIn<space> X, ViewIn<space> Y, MutableViewIn<space> D>
  matrix_view<typename Y::value_type const, space> backward(B& be, W const&, X x, Y dy, tape& t, double beta, D dx) {
    scratch<B> temporary(be);
    auto const d = temporary.template matrix<compute>(out(), rank());
    auto const inner = temporary.template matrix<double>(rank(), 1);
    this->check_backward(x, dy, t, dx);
    fill(be, d, 0);
    this->backward_through(be, folded_b(be, temporary), d, x, dy, t, beta, dx);
    auto const gradients = this->gradients_.view();
    auto const db = this->b_of(gradients);
    be.for_each(out(), rank(), functor::unfold_gradient<decltype(d), decltype(e()), decltype(db)>{d, e(), db});
    column_dots(be, this->b(), d, inner);
    axpby(be, 1.0, inner, 1.0, this->rest_of(gradients));
    return dy;
  }

  /// Adds weight*(||A*AT - I||_F + ||BT*B - I||_F) to `value` (1x1, in double) and its derivative to the gradients; the
  /// derivative of a term that is 0 is taken as 0. AdaLoRA's is 0.5/(2*layers).
  void add_orthogonality(B& be, double weight, matrix_view<double, space> value) {
    auto const gradients = this->gradients_.view();
    add_orthonormality_term(be, this->a().transposed(), this->a_of(gradients).transposed(), weight, value);
    add_orthonormality_term(be, this->b(), this->b_of(gradients), weight, value);
  }

  /// E_i = 0 where keep_i is 0, and the frozen start loses that triplet: else -s*b0*a0 would stay behind.
  /// errors  shape_error unless keep is r x 1; state_error if merged
  void prune(B& be, matrix_view<double const, space> keep) {
    require_shape(keep, rank(), 1, "adalora::prune", "keep");
    if (merged()) raise<state_error>("adalora::prune", "adapter", "merged", "unmerged in training");
    using K = matrix_view<double const, space>;
    auto const drop = [&](auto column) {
      be.for_each(1, rank(), functor::drop_columns<K, decltype(column)>{keep, column.transposed()});
    };
    drop(e());
    if constexpr (is_16bit<T>) drop(this->rest_of(this->masters_.view()));
    if (!paired()) return;
    auto const b0 = this->b_of(this->start_.view());
    be.for_each(out(), rank(), functor::drop_columns<K, decltype(b0)>{keep, b0});
  }

  /// W += s*B*diag(E)*A, minus the frozen start where there is one.  errors  as lora's
  template <MutableViewIn<space> W>
  void merge(B& be, W w) {
    if (merged()) raise<state_error>("adalora::merge", "adapter", "merged", "not merged");
    auto kept = this->copy_of_values(be);
    add_change(be, w);
    this->merged_ = std::move(kept);
  }
  template <MutableViewIn<space> W>
  void unmerge(B& be, W w) {
    if (!merged()) raise<state_error>("adalora::unmerge", "adapter", "not merged", "merged");
    add_values(be, this->merged_.view(), w, -1);
    this->merged_ = {};
  }
  template <MutableViewIn<space> W>
  void add_change(B& be, W w, double factor = 1) const {
    add_values(be, this->values_.view(), w, factor);
  }

 private:
  static constexpr double deviation = 0.02;
  std::uint64_t seed_;

  template <class Bv, class E, class O>
  static void fold(B& be, Bv b, E e, O out) {
    be.for_each(b.rows, b.cols, functor::fold_columns<Bv, E, O>{b, e, out});
  }
  matrix_view<T, space> folded_b(B& be, scratch<B>& temporary) const {
    auto const folded = temporary.template matrix<T>(out(), rank());
    fold(be, this->b(), e(), folded);
    return folded;
  }
  template <class W>
  void add_values(B& be, matrix_view<T const, space> values, W w, double factor) const {
    scratch<B> temporary(be);
    auto const folded = temporary.template matrix<T>(out(), rank());
    fold(be, this->b_of(values), this->rest_of(values), folded);
    this->add_product(be, this->a_of(values), folded, w, factor);
  }
};

}  // namespace loraga
