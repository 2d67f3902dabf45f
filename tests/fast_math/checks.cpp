// Compiled with -Ofast, as training code often is: bad numbers are still found. A program of its own, because inline
// functions compiled in two ways must not meet in one.
#include <cstdio>
#include <limits>
#include <loraga/cpu.hpp>

using namespace loraga;

namespace {

cpu be(1);
int failures = 0;
void check(bool ok, char const* what) {
  if (!ok) std::printf("failed: %s\n", what), ++failures;
}
template <class E, class F>
void refused(F&& f, char const* what) {
  try {
    f();
    check(false, what);
  } catch (E const&) {
  }
}

template <class G>
void poisoned(char const* name, float bad) {
  G g(be, 30, 20);
  matrix<float, cpu> dw(be, 30, 20), w(be, 30, 20);
  fill_normal(be, w.view(), {2, 2}, 1);
  for (std::uint64_t i = 0; i < 3; ++i) {
    fill_normal(be, dw.view(), {1, i}, 1);
    if (i == 1) dw.view()(3, 4) = bad;
    g.add(be, dw.view());
  }
  lora<float, cpu> ad(be, 30, 20, 2, rank_stable_scaling{});
  auto const start = [&](auto const& svd) { initialise(be, ad, lora_ga_init{}, w.view(), svd, g, in_place_anchor{}); };
  refused<numeric_error>([&] { start(automatic_svd{}); }, name);
  refused<numeric_error>([&] { start(block_krylov{.block = 4, .depth = 2}); }, name);
  auto const sizes = read_all(be, ad.a());
  for (float const x : sizes) check(x == 0, "an adapter left as it was");
}

}  // namespace

int main() {
  for (float const bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    poisoned<dense_gradient<cpu>>("dense_gradient", bad);
    poisoned<incremental_gradient<cpu>>("incremental_gradient", bad);
    dense_gradient<cpu> g(be, 4, 4);
    matrix<float, cpu> m(be, 4, 4);
    fill(be, m.view(), 1);
    refused<value_error>([&] { g.add(be, m.view(), bad); }, "a weight");
    refused<value_error>([&] { lora_ga_init{.gamma = bad}.check({8, 8, 2, 1, true}); }, "gamma");
    refused<value_error>([&] { rank_stable_scaling{bad}.scale(8, 8, 2); }, "alpha");
    adamw<float, cpu> opt(be);
    refused<value_error>([&] { opt.add_group(be, {.learning_rate = bad}); }, "a learning rate");
    m.view()(1, 1) = bad;
    refused<numeric_error>([&] { orthonormalize(be, m.view(), {1, 1}); }, "orthonormalize");
  }
  return failures == 0 ? 0 : 1;
}
