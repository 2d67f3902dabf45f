#pragma once
#include <loraga/adapter/folded_lora.hpp>

namespace loraga {

/// LoRA-SB: LoRA with a matrix R between B and A, and only R is trained. R is 0 in a new adapter. A start by an
/// initialiser is split (folded_lora): its lengths become the diagonal of R. The paper's own start is lora_sb_init with
/// sign_gradient accumulators and no_anchor. Other starts and anchors work as well, but for LoRA-GA's: its A and B take
/// different triplets of the gradient, so dR = s*BT*G*AT would be 0, and nothing would train.
/// math    y = W*x + s*B*R*A*drop(x)
/// shapes  as lora; r() r x r (column-major)
/// errors  as lora
/// cost    as lora; a pass forms B*R, 2*out*r^2 operations
/// memory  r^2 numbers are trained: gradients and optimiser states of that size
/// loss    in 16 bit an in-place anchor leaves the rounding of the split behind; a frozen pair is exact
/// source  arXiv:2411.19557
template <Element T, class B>
class lora_sb : public folded_lora<lora_sb<T, B>, T, B> {
  using base = folded_lora<lora_sb, T, B>;
  friend base;

 public:
  static constexpr bool trains_factors = false;  ///< A and B stay as they started
  using typename base::compute;
  using typename base::inner;
  using typename base::space;
  using typename base::tape;

  /// errors  as lora
  template <Scaling S>
  lora_sb(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options = {})
      : base(be, out, in, rank, scaling, options, squared(rank), false) {}

  /// R, r x r.
  matrix_view<T, space> r() { return square(this->rest(), this->rank()); }
  matrix_view<T const, space> r() const { return square(this->rest(), this->rank()); }
  std::array<parameter<T, space>, 1> parameters() {
    return {this->rest_parameter("lora_R", r(), square(this->gradients_.view(), this->rank()),
                                 square(this->masters_.view(), this->rank()))};
  }

  /// Adds the gradient of R, and sets dX unless it is empty.
  /// math    Q = s*BT*dY; dR += Q*(A*drop(X))T; dX = beta*dX + AT*RT*Q through the same mask
  /// returns  dY
  /// errors  as lora's
  template <ViewIn<space> W, ViewIn<space> X, ViewIn<space> Y, MutableViewIn<space> D = matrix_view<compute, space>>
  [[nodiscard]] matrix_view<typename Y::value_type const, space> backward(B& be, W const&, X x, Y dy, tape& t,
                                                                          double beta = 0, D dx = {}) {
    this->check_backward(x, dy, t, dx);
    double const s = this->scale_;
    scratch<B> temporary(be);
    index_t const r = this->rank();
    auto const h = this->upper(t.h.view().columns(0, t.tokens));
    auto const add_to_r = [&](auto q) { be.gemm(1.0, q, h.transposed(), 1.0, square(this->gradients_.view(), r)); };
    t.used = true;
    if (this->keeps_sides(t)) {  // one product gives the start's share, dX's and Q
      auto const [left, right] = this->sides(be, temporary, this->b(), t);
      auto const g = temporary.template matrix<inner>(3 * r, x.cols);
      be.gemm(s, left.transposed(), dy, 0.0, g);
      add_to_r(g.row_range(2 * r, r));
      this->backward_inputs(be, right, g.row_range(0, 2 * r), t, beta, dx);
      return dy;
    }
    auto const q = temporary.template matrix<inner>(r, x.cols);
    be.gemm(s, this->b().transposed(), dy, 0.0, q);
    add_to_r(q);
    if (dx.rows * dx.cols == 0) return dy;
    // a frozen pair by the rounded B*R of forward, so that the start's share is 0 where forward's was
    auto const folded = t.paired ? this->folded(be, temporary) : this->b();
    auto const [left, right] = this->sides(be, temporary, folded, t);
    auto const g = temporary.template matrix<inner>(left.cols, x.cols);
    if (t.paired) be.gemm(s, left.transposed(), dy, 0.0, g);
    else be.gemm(1.0, this->r().transposed(), q, 0.0, g);
    this->backward_inputs(be, right, g, t, beta, dx);
    return dy;
  }

 private:
  using factor = matrix_view<T const, space>;
  static factor gradient_side(factor b, factor) { return b; }
  /// Of a rank that has yet to be checked.
  static index_t squared(index_t r) { return r >= 1 && r <= index_t{1} << 31 ? r * r : 0; }
  template <class U>
  static matrix_view<U, space> square(matrix_view<U, space> flat, index_t r) {
    if (flat.rows == 0) return {};
    return {flat.data, r, r, 1, r};
  }
  static matrix_view<T, space> diagonal(matrix_view<T, space> numbers, index_t r) {
    return {numbers.data, r, 1, r + 1, 1};
  }
  template <class Bv, class U, class O>
  static void fold(B& be, Bv b, matrix_view<U, space> numbers, O to) {
    [[maybe_unused]] auto const precise = be.full_precision();  // merges and frozen pairs come this way as well
    be.gemm(1.0, b, square(numbers, b.cols), 0.0, to);
  }
};

}  // namespace loraga
