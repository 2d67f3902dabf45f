#pragma once
#include <loraga/linalg/random.hpp>

namespace loraga {

/// LoRA's own start for embeddings.
/// math    A = 0, B ~ N(0, 1): the rows of A are only picked, so B is what must not be 0
/// cost    r*(out + in) elements, asynchronous
/// source  huggingface/peft and microsoft/LoRA
/// Give layers initialised one by one different seeds; within a batch they get different streams.
struct embedding_init {
  std::uint64_t seed = 0;

  using needs = needs_nothing;
  static constexpr bool starts_at_zero = true;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t) const { return 0; }
  void check(index_t, index_t, index_t, double, bool) const {}

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    loraga::fill(be, a, 0);
    fill_normal(be, b, {seed, static_cast<std::uint64_t>(context.layer)}, 1);
  }
};

}  // namespace loraga
