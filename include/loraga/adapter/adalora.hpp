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

/// AdaLoRA's layer: LoRA with a diagonal E between B and A. adalora_budget prunes a triplet by setting E_i = 0.
/// E is 0 in a new adapter, which is AdaLoRA's own start. A start by an initialiser is split (folded_lora): lengths go
/// to E, and directions stay in A and B. Such a start is anchored by a frozen pair only, because pruning would have to
/// change W again.
/// math    y = W*x + s*B*diag(E)*A*drop(x)
/// shapes  as lora; e() r x 1
/// errors  as lora
/// cost    as lora; a pass forms B*diag(E)
/// source  arXiv:2303.10512, in the form of huggingface/peft
template <Element T, class B>
class adalora : public folded_lora<adalora<T, B>, T, B> {
  using base = folded_lora<adalora, T, B>;
  friend base;

 public:
  static constexpr bool takes_changed_weight = false;  ///< no anchor may change W: pruning takes the start along
  using typename base::compute;
  using typename base::space;
  using typename base::tape;

  /// errors  as lora
  template <Scaling S>
  adalora(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options = {})
      : base(be, out, in, rank, scaling, options, rank, true) {}

  /// E, r x 1.
  matrix_view<T, space> e() { return this->rest(); }
  matrix_view<T const, space> e() const { return this->rest(); }
  std::array<parameter<T, space>, 3> parameters() {
    auto const [a, b] = this->factor_parameters();
    return {a, b,
            this->rest_parameter("lora_E", e(), this->rest_of(this->gradients_.view()),
                                 this->rest_of(this->masters_.view()))};
  }

  /// math    D = s*dY*(A*drop(X))T; dB += D*diag(E); dE_i += B_iT*D_i; dA, dX as lora's with B*diag(E)
  /// returns  dY
  /// errors  as lora's
  template <ViewIn<space> W, ViewIn<space> X, ViewIn<space> Y, MutableViewIn<space> D = matrix_view<compute, space>>
  [[nodiscard]] matrix_view<typename Y::value_type const, space> backward(B& be, W const&, X x, Y dy, tape& t,
                                                                          double beta = 0, D dx = {}) {
    scratch<B> temporary(be);
    auto const d = temporary.template matrix<compute>(this->out(), this->rank());
    auto const dots = temporary.template matrix<double>(this->rank(), 1);
    this->check_backward(x, dy, t, dx);
    fill(be, d, 0);
    matrix_view<T const, space> folded;
    if (!this->keeps_sides(t)) folded = this->folded(be, temporary);
    this->backward_through(be, folded, d, x, dy, t, beta, dx);
    auto const db = this->factors_.db;
    be.for_each(this->out(), this->rank(),
                detail::unfold_gradient<decltype(d), decltype(e()), decltype(db)>{d, e(), db});
    column_dots(be, this->b(), d, dots);
    axpby(be, 1.0, dots, 1.0, this->rest_of(this->gradients_.view()));
    return dy;
  }

  static constexpr record_extra holds = record_extra::e;
  template <class R>
  void write_record(B&, R& record) const {
    record.a(this->a());
    record.b(this->b());
    record.e(e());
  }
  template <class R>
  void read_record(B& be, R const& record) {
    this->start(be, record.a(), record.b());
    if (!record.has_e()) return;
    be.copy(record.a(), this->a());  // the start has made other factors of them
    be.copy(record.b(), this->b());
    be.copy(record.e(), e());
    this->values_changed(be);
  }

  /// Adds the orthogonality term of one layer to `value`, and its derivative to the gradients. adalora_budget does so
  /// for all layers, with AdaLoRA's weight.
  /// math    value += weight*(||A*AT - I||_F + ||BT*B - I||_F); the derivative of a term that is 0 is 0
  /// shapes  value 1x1, in double
  void add_orthogonality(B& be, double weight, matrix_view<double, space> value) {
    add_orthonormality_term(be, this->a().transposed(), this->factors_.da.transposed(), weight, value);
    add_orthonormality_term(be, this->b(), this->factors_.db, weight, value);
  }

  /// Sets E_i = 0 where keep_i is 0. The frozen start loses that triplet too; else -s*b0*a0 would stay behind.
  /// errors  shape_error unless keep is r x 1; state_error if merged
  void prune(B& be, matrix_view<double const, space> keep) {
    require_shape(keep, this->rank(), 1, "adalora::prune", "keep");
    if (this->merged()) raise<state_error>("adalora::prune", "adapter", "merged", "unmerged in training");
    using K = matrix_view<double const, space>;
    auto const drop = [&](auto column) {
      be.for_each(1, this->rank(), detail::drop_columns<K, decltype(column)>{keep, column.transposed()});
    };
    drop(e());
    if constexpr (is_16bit<T>) drop(this->rest_of(this->masters_.view()));
    if (!this->paired()) return;
    auto const b0 = this->b_of(this->start_.view());
    be.for_each(this->out(), this->rank(), detail::drop_columns<K, decltype(b0)>{keep, b0});
  }

 private:
  using factor = matrix_view<T const, space>;
  static matrix_view<T, space> diagonal(matrix_view<T, space> numbers, index_t) { return numbers; }
  static factor gradient_side(factor, factor folded) { return folded; }
  template <class Bv, class E, class O>
  static void fold(B& be, Bv b, E e, O to) {
    be.for_each(b.rows, b.cols, detail::fold_columns<Bv, E, O>{b, e, to});
  }
};

}  // namespace loraga
