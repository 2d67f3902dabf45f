// Nor an adapter, an accumulator, or initialise.
// expect: constraints not satisfied|no matching function
#include <loraga/cpu.hpp>

void f(loraga::cpu& be, loraga::dense_gradient<loraga::cpu>& g, float* p) {
#ifdef REJECT
  g.add(be, loraga::row_major<loraga::device_space>(p, 2, 2));
#else
  g.add(be, loraga::row_major(p, 2, 2));
#endif
}
