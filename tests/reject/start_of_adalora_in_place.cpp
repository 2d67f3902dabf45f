// AdaLoRA prunes its start, which W could not give back.
// expect: prunes its start
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, adalora<float, cpu>& adapter, matrix_view<float, host_space> W, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, W, G, in_place_anchor{});
#else
  initialise(be, adapter, lora_ga_init{}, W, G, frozen_pair_anchor{});
#endif
}
