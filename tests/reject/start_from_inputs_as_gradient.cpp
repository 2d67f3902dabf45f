// GoRA reads a gradient; input statistics are none.
// expect: needs the layer's whole gradient
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, input_statistics<cpu>& inputs, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, gora_init{}, inputs, no_anchor{});
#else
  initialise(be, adapter, gora_init{}, inputs, G, no_anchor{});
#endif
}
