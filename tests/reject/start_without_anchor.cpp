// A start that changes the model says how that is undone.
// expect: this start changes the model: say how
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, int) {
#ifdef REJECT
  initialise(be, adapter, gaussian_pair_init{});
#else
  initialise(be, adapter, gaussian_pair_init{}, frozen_pair_anchor{});
#endif
}
