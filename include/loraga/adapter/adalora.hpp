#pragma once
#include <loraga/adapter/folded_lora.hpp>
#include <loraga/adapter/orthonormality.hpp>

namespace loraga {

namespace detail {

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

}  // namespace detail

/// AdaLoRA's layer: y = W*x + s*B*diag(E)*A*drop(x), whose triplets adalora_budget prunes by setting E_i = 0.
/// shapes  as lora; e() r x 1
/// E is 0 in a new one, which is AdaLoRA's own start, and takes the lengths of a start given by an initialiser
/// (folded_lora); what is left is what the orthogonality term pulls to. Such a start is anchored by a frozen pair only:
/// pruning would have to change W again.
/// source  arXiv:2303.10512, in the form of huggingface/peft
template <Element T, class B>
class adalora : public folded_lora<adalora<T, B>, T, B> {
  using base = folded_lora<adalora, T, B>;
  friend base;

 public:
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
      : base(be, out, in, rank, scaling, options, rank, true) {}

  matrix_view<T, space> e() { return this->rest_of(this->values_.view()); }
  matrix_view<T const, space> e() const { return this->rest_of(this->values_.view()); }
  std::array<parameter<T, space>, 3> parameters() {
    auto const [a, b] = this->factor_parameters();
    return {a,
            b,
            {"lora_E", parameter_kind::other, e(), this->rest_of(this->gradients_.view()),
             this->rest_of(this->masters_.view())}};
  }

  template <MutableViewIn<space> W>
  void subtract_start(B&, W, matrix_view<T const, space>, matrix_view<T const, space>) {
    raise<state_error>("adalora::subtract_start", "anchor", "in place",
                       "frozen_pair_anchor: pruning changes the start");
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
    this->backward_through(be, this->folded(be, temporary, this->values_.view()), d, x, dy, t, beta, dx);
    auto const gradients = this->gradients_.view();
    auto const db = this->b_of(gradients);
    be.for_each(out(), rank(), detail::unfold_gradient<decltype(d), decltype(e()), decltype(db)>{d, e(), db});
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
      be.for_each(1, rank(), detail::drop_columns<K, decltype(column)>{keep, column.transposed()});
    };
    drop(e());
    if constexpr (is_16bit<T>) drop(this->rest_of(this->masters_.view()));
    if (!paired()) return;
    auto const b0 = this->b_of(this->start_.view());
    be.for_each(out(), rank(), detail::drop_columns<K, decltype(b0)>{keep, b0});
  }

 private:
  static matrix_view<T, space> diagonal(matrix_view<T, space> numbers, index_t) { return numbers; }
  template <class Bv, class E, class O>
  static void fold(B& be, Bv b, E e, O to) {
    be.for_each(b.rows, b.cols, detail::fold_columns<Bv, E, O>{b, e, to});
  }
};

}  // namespace loraga
