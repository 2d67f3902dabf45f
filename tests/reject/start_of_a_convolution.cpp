// A convolution starts by its adapter().
// expect: starts an adapter
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, convolution<lora<float, cpu>, cpu>& layer, int) {
#ifdef REJECT
  initialise(be, layer, kaiming_init{});
#else
  initialise(be, layer.adapter(), kaiming_init{});
#endif
}
