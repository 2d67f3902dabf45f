#include <cstdio>
#include <loraga/cpu.hpp>

int main() {
  loraga::cpu be(1);
  loraga::lora<float, loraga::cpu> adapter(be, 4, 3, 1, loraga::classic_scaling{});
  loraga::initialise(be, adapter, loraga::kaiming_init{});
  float const w[12] = {}, x[3] = {1, 2, 3};
  float y[4] = {};
  decltype(adapter)::tape tape;
  adapter.forward(be, loraga::row_major(w, 4, 3), loraga::activations(x, 1, 3), loraga::activations(y, 1, 4), tape);
  std::printf("loraga %d.%d.%d\n", LORAGA_VERSION_MAJOR, LORAGA_VERSION_MINOR, LORAGA_VERSION_PATCH);
  return y[0] == 0 ? 0 : 1;
}
