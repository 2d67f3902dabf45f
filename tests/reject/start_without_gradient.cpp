// LoRA-GA needs a gradient; PiSSA does not.
// expect: needs the layer's gradient
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, matrix_view<float, host_space> W) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, W, in_place_anchor{});
#else
  initialise(be, adapter, pissa_init{}, W, in_place_anchor{});
#endif
}
