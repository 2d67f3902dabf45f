// EVA without what the layer's inputs were is no call; LoRA's own start, which needs nothing, is.
// expect: no matching function
#include <loraga/cpu.hpp>

using backend = loraga::cpu;
void f(backend& be, loraga::lora<float, backend>& ad) {
#ifdef REJECT
  initialise(be, ad, loraga::eva_init{});
#else
  initialise(be, ad, loraga::gaussian_init{});
#endif
}
