// PiSSA needs W, whatever else is there; LoRA-GA behind a frozen pair does not.
// expect: needs W: give a view of it
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, pissa_init{}, automatic_svd{}, G, frozen_pair_anchor{});
#else
  initialise(be, adapter, lora_ga_init{}, automatic_svd{}, G, frozen_pair_anchor{});
#endif
}
