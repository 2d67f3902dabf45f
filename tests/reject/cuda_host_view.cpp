// A view of host memory does not reach a device product.
// expect: constraints not satisfied|no matching function
#include <loraga/cuda.cuh>

void f(loraga::cuda& be, float* p) {
  auto const device = loraga::col_major<loraga::device_space>(p, 2, 2);
#ifdef REJECT
  auto const other = loraga::col_major(p + 4, 2, 2);
#else
  auto const other = loraga::col_major<loraga::device_space>(p + 4, 2, 2);
#endif
  be.gemm(1.0, device, other, 0.0, loraga::col_major<loraga::device_space>(p + 8, 2, 2));
}
