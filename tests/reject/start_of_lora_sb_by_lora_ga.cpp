// LoRA-GA takes different triplets for A and B: LoRA-SB would never train.
// expect: lora_sb never trains
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora_sb<float, cpu>& adapter, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, G, frozen_pair_anchor{});
#else
  initialise(be, adapter, lora_one_init{}, G, frozen_pair_anchor{});
#endif
}
