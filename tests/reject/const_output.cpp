// A const view cannot be written to.
// expect: constraints not satisfied|no matching function
#include <loraga/cpu.hpp>

void f(loraga::cpu& be, float* p) {
#ifdef REJECT
  float const* const out = p + 8;
#else
  float* const out = p + 8;
#endif
  be.gemm(1.0, loraga::col_major(p, 2, 2), loraga::col_major(p + 4, 2, 2), 0.0, loraga::col_major(out, 2, 2));
}
