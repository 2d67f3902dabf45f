#pragma once
#include <cstring>
#include <loraga/cpu.hpp>
#include <map>
#include <vector>

// The CPU with a GPU's tensor cores in one respect: products within pass_precision round float operands to TF32.

namespace passes {

using loraga::host_space;
using loraga::index_t;

/// 10 mantissa bits, to nearest.
inline float tf32(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0xfff + (bits >> 13 & 1)) & ~std::uint32_t{0x1fff};
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

class rounding_cpu : public loraga::cpu {
  bool rounds_, rough_ = false;
  std::map<float const*, std::vector<float>> kept_;  // of large operands, which come again

  template <class T>
  static constexpr bool is_float = std::is_same_v<std::remove_const_t<T>, float>;

  loraga::const_view<float, host_space> rounded(loraga::const_view<float, host_space> v, std::vector<float>& own) {
    bool const large = v.rows * v.cols >= index_t{1} << 22;
    auto& to = large ? kept_[v.data] : own;
    bool const flip = v.row_stride != 1 && v.rows > 1;
    auto const x = flip ? v.transposed() : v;
    if (to.empty()) {
      to.resize(static_cast<std::size_t>(x.rows * x.cols));
      for (index_t j = 0; j < x.cols; ++j)
        for (index_t i = 0; i < x.rows; ++i) to[static_cast<std::size_t>(i + j * x.rows)] = tf32(x(i, j));
    }
    auto const y = loraga::col_major(static_cast<float const*>(to.data()), x.rows, x.cols);
    return flip ? y.transposed() : y;
  }

 public:
  explicit rounding_cpu(bool rounds) : loraga::cpu(1), rounds_(rounds) {}
  /// Another matrix may be at the same address now.
  void forget() { kept_.clear(); }

  struct guard {
    bool& flag;
    bool before;
    ~guard() { flag = before; }
  };
  guard pass_precision() {
    bool const before = rough_;
    rough_ = rounds_;
    return {rough_, before};
  }
  template <class A, class Bv, class C>
  void gemm(double alpha, A a, Bv b, double beta, C c) {
    if constexpr (is_float<typename A::value_type> && is_float<typename Bv::value_type>)
      if (rough_) {
        std::vector<float> of_a, of_b;
        return loraga::cpu::gemm(alpha, rounded(a, of_a), rounded(b, of_b), beta, c);
      }
    loraga::cpu::gemm(alpha, a, b, beta, c);
  }
  template <class A, class Bb, class C>
  void gemm_batched(double alpha, A const& a, Bb const& b, double beta, C const& c) {
    for (index_t i = 0; i < c.count; ++i) gemm(alpha, a[i], b[i], beta, c[i]);
  }
  template <class F>
  void for_each_chunk(index_t count, F const& task) {
    for (index_t i = 0; i < count; ++i) task(*this, i, index_t{1});
  }
};

}  // namespace passes
