// A start that would change the model says how that is kept from happening.
// expect: no matching function
#include <loraga/cpu.hpp>

using backend = loraga::cpu;
void f(backend& be, loraga::lora<float, backend>& ad) {
#ifdef REJECT
  initialise(be, ad, loraga::gaussian_pair_init{});
#else
  initialise(be, ad, loraga::gaussian_pair_init{}, loraga::frozen_pair_anchor{});
#endif
}
