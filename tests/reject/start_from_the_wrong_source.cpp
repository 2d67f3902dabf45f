// CorDA starts from input statistics; a gradient is none.
// expect: needs what the layer's inputs were
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, matrix_view<float, host_space> W, dense_gradient<cpu>& G,
       input_statistics<cpu>& inputs) {
#ifdef REJECT
  initialise(be, adapter, corda_init{}, W, G, in_place_anchor{});
#else
  initialise(be, adapter, corda_init{}, W, G, inputs, in_place_anchor{});
#endif
}
