// A view of device memory does not reach a host product.
// expect: constraints not satisfied|no matching function
#include <loraga/cpu.hpp>

void f(loraga::cpu& be, float* p) {
  auto const host = loraga::col_major(p, 2, 2);
#ifdef REJECT
  auto const other = loraga::col_major<loraga::device_space>(p + 4, 2, 2);
#else
  auto const other = loraga::col_major(p + 4, 2, 2);
#endif
  be.gemm(1.0, host, other, 0.0, loraga::col_major(p + 8, 2, 2));
}
