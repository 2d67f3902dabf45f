// Adapters hold float, double, bf16 or half.
// expect: constraint|Element
#include <loraga/cpu.hpp>

#ifdef REJECT
using element = int;
#else
using element = loraga::bf16;
#endif
void f(loraga::lora<element, loraga::cpu>&) {}
