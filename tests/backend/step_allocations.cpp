// On the CPU: a step allocates nothing once every shape was seen. (On a GPU a captured step shows it: cuda/graph.cu.)
#include "../support/allocations.hpp"
#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::upload;

TEST_CASE("no step after the first of its shape allocates", "[adapter]") {
  // one thread, as a training loop's own thread: with more, waking helpers allocates nothing either, but on their side
  cpu be(1);
  for (double const p : {0.0, 0.1})
    for (bool const pair : {false, true}) {
      INFO("dropout " << p << " pair " << pair);
      index_t const out = 130, in = 70, tokens = 600;
      lora<float, cpu> ad(be, out, in, 4, classic_scaling{}, {.dropout = p});
      initialise(be, ad, kaiming_init{});
      if (pair) test::freeze(be, ad);
      adamw<float, cpu> opt(be);
      add_adapter(be, opt, ad, {}, 16);
      auto w = upload<float>(be, test::random(out, in, 1)), x = upload<float>(be, test::random(in, tokens, 2));
      matrix<float, cpu> y(be, out, tokens), dx(be, in, tokens), norm_memory(be, 1, 1);
      matrix<double, cpu> norm(be, 1, 1);
      decltype(ad)::tape t;
      auto const step = [&] {
        be.gemm(1.0, w.view(), x.view(), 0.0, y.view());
        ad.forward(be, w.view(), x.view(), y.view(), t);
        ad.zero_gradient(be);
        (void)ad.backward(be, w.view(), x.view(), y.view(), t, 0.0, dx.view());
        be.gemm(1.0, w.view().transposed(), y.view(), 1.0, dx.view());
        matrix_view<float, host_space> const gradients[] = {ad.gradient()};
        clip_gradients(be, std::span<matrix_view<float, host_space> const>(gradients), 1.0, norm.view());
        opt.step(be);
      };
      step();
      step();
      long const before = test::allocations();
      for (int i = 0; i < 3; ++i) step();
      CHECK(test::allocations() == before);
    }
}

TEST_CASE("steps over many tiles and threads allocate nothing either", "[adapter]") {
  loraga::cpu be(4);
  index_t const out = 1100, in = 700, tokens = 600;
  lora<float, loraga::cpu> ad(be, out, in, 16, rank_stable_scaling{});
  matrix<float, loraga::cpu> w(be, out, in), x(be, in, tokens), y(be, out, tokens), dx(be, in, tokens);
  for (auto* m : {&w, &x, &y, &dx}) fill(be, m->view(), 1);
  ad.values_changed(be);
  decltype(ad)::tape t;
  auto const step = [&] {
    be.gemm(1.0, w.view(), x.view(), 0.0, y.view());
    ad.forward(be, w.view(), x.view(), y.view(), t);
    (void)ad.backward(be, w.view(), x.view(), y.view(), t, 0.0, dx.view());
  };
  step();
  long const before = test::allocations();
  for (int i = 0; i < 5; ++i) step();
  CHECK(test::allocations() == before);
}
