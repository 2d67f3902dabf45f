// W of a GPU does not start an adapter of the host.
// expect: another memory than the backend
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, matrix_view<float, host_space> W, matrix_view<float, device_space> far,
       dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, far, G, in_place_anchor{});
#else
  (void)far, initialise(be, adapter, lora_ga_init{}, W, G, in_place_anchor{});
#endif
}
