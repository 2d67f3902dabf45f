// Layers of a range bring their W along.
// expect: bring their own W
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, std::vector<layer<lora<float, cpu>, matrix_view<float, host_space>>>& layers,
       matrix_view<float, host_space> W) {
#ifdef REJECT
  initialise(be, layers, pissa_init{}, W, in_place_anchor{});
#else
  (void)W, initialise(be, layers, pissa_init{}, in_place_anchor{});
#endif
}
