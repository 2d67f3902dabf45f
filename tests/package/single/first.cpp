// The README's program on one header, beside a second file that holds the same templates. Prints bits.
#include <bit>
#include <cstdint>
#include <cstdio>

#include "readme.cpp"

void save_and_load(cpu& be, lora<float, cpu>& adapter);

int main() {
  index_t const out = 24, in = 16, tokens = 40;
  cpu be(2);
  std::vector<float> w(static_cast<std::size_t>(out * in)), x(static_cast<std::size_t>(tokens * in)), dx(x.size());
  std::vector<float> y(static_cast<std::size_t>(out * tokens)), target(y.size()), dy(y.size());
  auto const W = row_major(w.data(), out, in);
  auto const Y = activations(y.data(), tokens, out), T = activations(target.data(), tokens, out);
  auto const dY = activations(dy.data(), tokens, out);
  fill_normal(be, W, {1, 1}, 0.1);
  fill_normal(be, activations(x.data(), tokens, in), {1, 2}, 1);
  fill_normal(be, T, {1, 3}, 1);
  fine_tune(be, w.data(), x.data(), y.data(), dx.data(), dy.data(), out, in, tokens, [&] {
    convert(be, Y, dY);
    axpby(be, -1.0 / tokens, T, 1.0 / tokens, dY);
  });
  for (float v : w) std::printf("%08x\n", std::bit_cast<std::uint32_t>(v));
  lora<float, cpu> adapter(be, out, in, 4, rank_stable_scaling{.alpha = 16});
  initialise(be, adapter, pissa_init{}, W, automatic_svd{}, in_place_anchor{});
  save_and_load(be, adapter);
}
