// An optimiser holds parameters of one element type.
// expect: optimiser's element type
// lines: 25
#include <loraga/cpu.hpp>

using namespace loraga;
void f(cpu& be, lora<bf16, cpu>& adapter, adamw<float, cpu>& one, adamw<bf16, cpu>& other) {
#ifdef REJECT
  (void)other, add_adapter(be, one, adapter, {});
#else
  (void)one, add_adapter(be, other, adapter, {});
#endif
}
