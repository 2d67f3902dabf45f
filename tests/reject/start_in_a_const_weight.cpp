// Anchoring in place needs a W that may change; the frozen pair does not.
// expect: this anchor writes W
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, matrix_view<float const, host_space> W, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, W, G, in_place_anchor{});
#else
  initialise(be, adapter, lora_ga_init{}, W, G, frozen_pair_anchor{});
#endif
}
