// Anchoring in place needs a W that may change; the frozen pair does not.
// expect: constraints not satisfied|no matching (member )?function
#include <loraga/cpu.hpp>

using backend = loraga::cpu;
void f(backend& be, loraga::lora<float, backend>& ad, loraga::dense_gradient<backend>& g, float const* w) {
#ifdef REJECT
  loraga::in_place_anchor const anchor;
#else
  loraga::frozen_pair_anchor const anchor;
#endif
  initialise(be, ad, loraga::lora_ga_init{}, loraga::row_major(w, 8, 8), loraga::gram{}, g, anchor);
}
