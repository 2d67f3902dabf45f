// An Eigen matrix is seen through view().
// expect: none of these
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<float, cpu>& adapter, Eigen::MatrixXf& W, dense_gradient<cpu>& G) {
#ifdef REJECT
  initialise(be, adapter, lora_ga_init{}, W, G, in_place_anchor{});
#else
  initialise(be, adapter, lora_ga_init{}, view(W), G, in_place_anchor{});
#endif
}
