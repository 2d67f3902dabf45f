#pragma once
#include <cublas_v2.h>
#include <cusolverDn.h>

#include <cstring>
#include <loraga/core/float16.hpp>

#include "../support/catch.hpp"
#include "../support/host.hpp"
#include "device_double.hpp"

// What the tests of the double itself share.

namespace device_double::check {

using test::distance;
using test::host;
using test::index_t;

template <class T>
struct device {
  T* p = nullptr;
  explicit device(std::size_t n) {
    REQUIRE(cudaMallocAsync(reinterpret_cast<void**>(&p), n * sizeof(T), nullptr) == 0);
  }
  device(host const& m, index_t ld) : device(static_cast<std::size_t>(ld * m.cols)) {
    for (index_t j = 0; j < m.cols; ++j)
      for (index_t i = 0; i < m.rows; ++i) p[i + j * ld] = static_cast<T>(static_cast<loraga::compute_t<T>>(m(i, j)));
  }
  ~device() { cudaFreeAsync(p, nullptr); }
  device(device const&) = delete;
  host get(index_t rows, index_t cols, index_t ld) const {
    return test::generate(rows, cols, [&](index_t i, index_t j) { return loraga::as_double(p[i + j * ld]); });
  }
};
template <class T>
inline constexpr cudaDataType type = std::is_same_v<T, double>         ? CUDA_R_64F
                                     : std::is_same_v<T, float>        ? CUDA_R_32F
                                     : std::is_same_v<T, loraga::bf16> ? CUDA_R_16BF
                                                                       : CUDA_R_16F;
struct blas {
  cublasHandle_t h = nullptr;
  blas() { REQUIRE(cublasCreate(&h) == 0); }
  ~blas() { cublasDestroy(h); }
};
struct solver {
  cusolverDnHandle_t h = nullptr;
  cusolverDnParams_t params = nullptr;
  gesvdjInfo_t jacobi = nullptr;
  solver() {
    REQUIRE(cusolverDnCreate(&h) == 0);
    REQUIRE(cusolverDnCreateParams(&params) == 0);
    REQUIRE(cusolverDnCreateGesvdjInfo(&jacobi) == 0);
  }
  ~solver() {
    cusolverDnDestroyGesvdjInfo(jacobi);
    cusolverDnDestroyParams(params);
    cusolverDnDestroy(h);
  }
};

inline host small_whole_numbers(index_t rows, index_t cols, std::uint64_t seed) {
  host m = test::random(rows, cols, seed, 3);
  for (double& x : m.data) x = std::round(x);
  return m;
}

template <class F>
void with_room(std::size_t device_bytes, std::size_t host_bytes, F const& f) {
  device<char> const on_device(device_bytes);
  std::vector<char> on_host(host_bytes);
  REQUIRE(f(on_device.p, on_host.data()) == 0);
}

}  // namespace device_double::check
