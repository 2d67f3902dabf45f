// A communicator alone does not say what it is for.
// expect: an argument here is none of these
#include <loraga/cpu.hpp>
#include <loraga/distributed.hpp>

using namespace loraga;

void f(cpu& be, loopback_communicator& comm, lora<float, cpu>& adapter) {
#ifdef REJECT
  initialise(be, adapter, kaiming_init{}, comm);
#else
  initialise(be, adapter, kaiming_init{}, over_ranks(comm));
#endif
}
