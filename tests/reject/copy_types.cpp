// copy keeps the element type; convert changes it.
// expect: constraints not satisfied|no matching (member )?function
#include <loraga/cpu.hpp>

void f(loraga::cpu& be, float* p, loraga::bf16* q) {
#ifdef REJECT
  be.copy(loraga::col_major(p, 2, 2), loraga::col_major(q, 2, 2));
#else
  convert(be, loraga::col_major(p, 2, 2), loraga::col_major(q, 2, 2));
#endif
}
