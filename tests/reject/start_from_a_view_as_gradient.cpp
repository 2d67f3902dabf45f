// A gradient goes into an accumulator; a second view is none.
// expect: given at most once
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, matrix_view<float, host_space> W, matrix_view<float, host_space> dW,
       dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, W, dW, in_place_anchor{});
#else
  G.add(be, dW), initialise(be, adapter, lora_ga_init{}, W, G, in_place_anchor{});
#endif
}
