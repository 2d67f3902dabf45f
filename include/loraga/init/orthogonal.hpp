#pragma once
#include <loraga/linalg/orthonormal.hpp>

namespace loraga {

/// PEFT's init_lora_weights="orthogonal": both factors are non-zero, their product is 0 (up to rounding).
/// math    Q r x r orthogonal; A = Q[0::2, :]T*N1/10, B = N2*Q[1::2, :]/10, N1 (r/2 x in) and N2 (out x r/2) ~ N(0, 1)
/// errors  value_error if r is odd
/// cost    r^2*(out + in) operations, one look at an r x r factorisation
/// Give layers initialised one by one different seeds; within a batch they get different streams.
struct orthogonal_init {
  std::uint64_t seed = 0;

  using needs = needs_nothing;
  static constexpr bool starts_at_zero = true;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t) const { return 0; }
  void check(index_t, index_t, index_t r, double, bool) const {
    require_value(r % 2 == 0, static_cast<double>(r), "orthogonal_init", "rank", "an even number");
  }

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    using T = compute_t<typename V::value_type>;
    random_stream const stream{seed, static_cast<std::uint64_t>(context.layer)};
    index_t const r = a.rows;
    scratch<B> temporary(be);
    auto const q = temporary.template matrix<T>(r, r), n1 = temporary.template matrix<T>(r / 2, a.cols),
               n2 = temporary.template matrix<T>(b.rows, r / 2);
    fill_normal(be, q, derive(stream, 1), 1);
    orthonormalize(be, q, derive(stream, 2));
    fill_normal(be, n1, derive(stream, 3), 0.1);
    fill_normal(be, n2, derive(stream, 4), 0.1);
    // every second row of Q, as a view: twice the row stride
    auto const every_second = [&](index_t first) {
      auto const from = q.row_range(first, r - first);
      auto const packed = temporary.template matrix<T>(r / 2, r);
      be.copy(matrix_view<T, typename B::space>(from.data, r / 2, r, 2 * q.row_stride, q.col_stride), packed);
      return packed;
    };
    be.gemm(1.0, every_second(0).transposed(), n1, 0.0, a);
    be.gemm(1.0, n2, every_second(1), 0.0, b);
  }
};

}  // namespace loraga
