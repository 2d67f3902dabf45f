// An adapter on a GPU does not start from a weight in host memory.
// expect: another memory than the backend
#include <loraga/cuda.cuh>

void f(loraga::cuda& be, loraga::lora<float, loraga::cuda>& adapter, loraga::dense_gradient<loraga::cuda>& g,
       float* p) {
#ifdef REJECT
  auto const w = loraga::row_major(p, 8, 8);
#else
  auto const w = loraga::row_major<loraga::device_space>(p, 8, 8);
#endif
  loraga::initialise(be, adapter, loraga::lora_ga_init{}, w, loraga::gram{}, g, loraga::in_place_anchor{});
}
