// An accumulator that lacks a member is told which.
// expect: g\.merge\(be, cg\)
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;

/// Everything of an accumulator but merge.
struct short_one {
  using value_type = float;
  dense_gradient<cpu> sum;
  index_t rows() const { return sum.rows(); }
  index_t cols() const { return sum.cols(); }
  index_t count() const { return sum.count(); }
  double weight() const { return sum.weight(); }
  void add(cpu& be, const_view<float, host_space> dw, double weight) { sum.add(be, dw, weight); }
  void add_outer(cpu& be, const_view<float, host_space> dy, const_view<float, host_space> x, double weight) {
    sum.add_outer(be, dy, x, weight);
  }
  void reset(cpu& be) { sum.reset(be); }
  template <class Svd>
  static svd_result<float, cpu> top(cpu& be, Svd const& svd, std::span<short_one const* const> batch, index_t k) {
    return batch[0]->sum.top(be, svd, k);
  }
};

void f(cpu& be, lora<float, cpu>& adapter, short_one& mine, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, mine, frozen_pair_anchor{});
#else
  (void)mine, initialise(be, adapter, lora_ga_init{}, G, frozen_pair_anchor{});
#endif
}
