// Two accumulators that would both do: which one is not guessed.
// expect: two sources here meet
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, dense_gradient<cpu>& G, dense_gradient<cpu>& H) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, G, H, frozen_pair_anchor{});
#else
  (void)H, initialise(be, adapter, lora_ga_init{}, G, frozen_pair_anchor{});
#endif
}
