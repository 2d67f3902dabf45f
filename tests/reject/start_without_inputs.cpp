// EVA needs what the inputs were; LoRA's own start needs nothing.
// expect: needs what the layer's inputs were
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, eva_init{}, G);
#else
  initialise(be, adapter, gaussian_init{}, G);
#endif
}
