// What is no view, SVD method, source or anchor is told so; a matrix has a view.
// expect: none of these
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, matrix<float, cpu>& W, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, W, G, in_place_anchor{});
#else
  initialise(be, adapter, lora_ga_init{}, W.view(), G, in_place_anchor{});
#endif
}
