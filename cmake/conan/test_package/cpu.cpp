#include <loraga/cpu.hpp>

// An adapter that was started changes nothing yet: W*X + s*B*A*X = W*X, as B is 0.
int main() {
  loraga::cpu be(1);
  loraga::lora<float, loraga::cpu> adapter(be, 4, 3, 1, loraga::classic_scaling{});
  loraga::initialise(be, adapter, loraga::kaiming_init{});
  float const w[12] = {}, x[3] = {1, 2, 3};
  float y[4] = {1, 1, 1, 1};
  decltype(adapter)::tape tape;
  adapter.forward(be, loraga::row_major(w, 4, 3), loraga::activations(x, 1, 3), loraga::activations(y, 1, 4), tape);
  return y[0] == 1 && y[3] == 1 ? 0 : 1;
}
