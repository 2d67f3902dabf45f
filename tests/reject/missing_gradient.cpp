// LoRA-GA without a gradient is no call; PiSSA, which needs none, is.
// expect: no matching function
#include <loraga/cpu.hpp>

using backend = loraga::cpu;
void f(backend& be, loraga::lora<float, backend>& ad, float* w) {
#ifdef REJECT
  loraga::lora_ga_init const init;
#else
  loraga::pissa_init const init;
#endif
  initialise(be, ad, init, loraga::row_major(w, 8, 8), loraga::gram{}, loraga::in_place_anchor{});
}
