// LoRA-GA with no_anchor is asked for by another name.
// expect: this start is to be anchored
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, G, no_anchor{});
#else
  initialise(be, adapter, lora_ga_init{}, G, unanchored{});
#endif
}
