#pragma once
#include <loraga/linalg/orthonormal.hpp>

namespace loraga {

/// PEFT's init_lora_weights="orthogonal": both factors are not 0, their product is 0 up to rounding.
/// math    Q r x r orthogonal; A = Q[0::2, :]T*N1/10, B = N2*Q[1::2, :]/10, N1 (r/2 x in) and N2 (out x r/2) ~ N(0, 1)
/// errors  value_error if r is odd
/// cost    r^2*(out + in) operations; waits once for an r x r factorisation
/// source  huggingface/peft
/// Layers of a range draw different numbers. Adapters started one by one do where their seeds (lora_options) differ.
struct orthogonal_init {
  std::uint64_t seed = 0;

  static constexpr start_kind starts = start_kind::at_zero;
  void check(layer_facts const& of) const {
    require_value(of.rank % 2 == 0, static_cast<double>(of.rank), "orthogonal_init", "rank", "an even number");
  }

  template <Backend B, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, V a, V b) const {
    using T = compute_t<typename V::value_type>;
    random_stream const stream{seed, at.number};
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
