// CorDA starts from input statistics; a gradient is none.
// expect: no matching function
#include <loraga/cpu.hpp>

using backend = loraga::cpu;
void f(backend& be, loraga::lora<float, backend>& ad, loraga::dense_gradient<backend>& g,
       loraga::input_statistics<backend>& x, float* w) {
#ifdef REJECT
  auto const& measured = (static_cast<void>(x), g);
#else
  auto const& measured = (static_cast<void>(g), x);
#endif
  initialise(be, ad, loraga::corda_init{}, loraga::row_major(w, 8, 8), loraga::gram{}, measured,
             loraga::in_place_anchor{});
}
