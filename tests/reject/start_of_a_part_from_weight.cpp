// A part of W has no singular vectors of the whole.
// expect: starts from W or from inputs need the whole layer
#include <loraga/cpu.hpp>
#include <loraga/distributed.hpp>

using namespace loraga;

void f(cpu& be, loopback_communicator& comm, lora<float, cpu>& adapter, dense_gradient<cpu>& G,
       matrix_view<float, host_space> W) {
  std::vector layers{sharded_layer{&adapter, even_shard(shard_side::rows, 8, 6, 0, 2), W, &G, "q_proj"}};
#ifdef REJECT
  initialise_sharded(be, comm, layers, pissa_init{}, in_place_anchor{});
#else
  initialise_sharded(be, comm, layers, lora_ga_init{}, in_place_anchor{});
#endif
}
