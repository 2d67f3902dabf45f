#include <loraga/initialise.hpp>

#include "init/checks.hpp"

using namespace loraga;
using test::download;
using test::host;

namespace {

using adapter = lora<float, test::backend>;
using gradient = dense_gradient<test::backend>;
using layer_of = layer<adapter, test::view<float>, gradient>;

/// Several layers of two shapes.
struct model {
  test::backend be = test::make_backend();
  std::vector<adapter> adapters;
  std::vector<matrix<float, test::backend>> weights;
  std::vector<gradient> gradients;
  std::vector<host> before;
  std::vector<layer_of> layers;

  model() {
    for (int i = 0; i < 6; ++i) {
      index_t const out = i % 2 ? 24 : 40, in = 30;
      auto const seed = static_cast<std::uint64_t>(10 * i);
      adapters.emplace_back(be, out, in, 3, rank_stable_scaling{});
      weights.push_back(test::upload<float>(be, test::random(out, in, seed, 0.2)));
      gradients.emplace_back(be, out, in);
      gradients.back().add(
          be, test::upload<float>(be, test::with_spectrum(out, in, test::geometric(24, 0.8), seed + 1)).view());
      before.push_back(download(be, weights.back().view()));
    }
    for (std::size_t i = 0; i < 6; ++i)
      layers.push_back({&adapters[i], weights[i].view(), &gradients[i], "layer" + std::to_string(i)});
  }
  void run(lora_ga_init init = {}) {
    initialise(be, std::span<layer_of const>(layers), init, gram{}, in_place_anchor{});
  }
  bool untouched(std::size_t i) {
    return test::largest(download(be, adapters[i].a())) == 0 &&
           test::distance(download(be, weights[i].view()), before[i]) == 0;
  }
};

}  // namespace

TEST_CASE("a batch equals its layers one by one, bit for bit", "[initialise]") {
  model all, single;
  all.run();
  for (std::size_t i = 0; i < 6; ++i) {
    initialise(single.be, single.adapters[i], lora_ga_init{}, single.weights[i].view(), gram{}, single.gradients[i],
               in_place_anchor{});
    CHECK(read_all(all.be, all.adapters[i].a()) == read_all(single.be, single.adapters[i].a()));
    CHECK(read_all(all.be, all.adapters[i].b()) == read_all(single.be, single.adapters[i].b()));
    CHECK(read_all(all.be, all.weights[i].view()) == read_all(single.be, single.weights[i].view()));
  }
}

TEST_CASE("bad layers are named together and left alone; good ones are initialised", "[initialise]") {
  model m;
  m.gradients[1].add(m.be, test::upload<float>(m.be, host(24, 30, NAN)).view());
  m.gradients[4].reset(m.be);
  m.gradients[4].add(m.be, test::upload<float>(m.be, host(40, 30)).view());
  try {
    m.run();
    FAIL("nothing was thrown");
  } catch (numeric_error const& e) {
    std::string const what = e.what();
    CHECK(what.find("layer1 is not finite") != std::string::npos);
    CHECK(what.find("layer4 is zero") != std::string::npos);
    CHECK(what.find("layer0") == std::string::npos);
  }
  for (std::size_t const i : {1u, 4u}) CHECK(m.untouched(i));
  for (std::size_t const i : {0u, 2u, 3u, 5u}) CHECK(!m.untouched(i));
}

TEST_CASE("what can be known before any work is refused before any change", "[initialise]") {
  {
    model m;
    m.gradients[5].reset(m.be);
    CHECK_THROWS_WITH(m.run(), Catch::Contains("layer5") && Catch::Contains("empty"));
    for (std::size_t i = 0; i < 6; ++i) CHECK(m.untouched(i));
  }
  {
    model m;
    m.layers[5].weight = m.weights[4].view();
    CHECK_THROWS_AS(m.run(), shape_error);
    for (std::size_t i = 0; i < 6; ++i) CHECK(m.untouched(i));
  }
  {
    model m;
    m.layers[3].gradient = &m.gradients[2];
    CHECK_THROWS_AS(m.run(), shape_error);
    CHECK_THROWS_AS(m.run({.gamma = 0}), value_error);
    for (std::size_t i = 0; i < 6; ++i) CHECK(m.untouched(i));
  }
}

TEST_CASE("a second start in place would lose the first one's W and is refused", "[initialise]") {
  model m;
  m.run();
  auto const w = download(m.be, m.weights[0].view());
  CHECK_THROWS_AS(m.run(), state_error);
  CHECK(test::distance(download(m.be, m.weights[0].view()), w) == 0);
  test::fixture<> f(20, 15, 3);
  adapter pair(f.be, 20, 15, 3, rank_stable_scaling{});
  initialise(f.be, pair, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  CHECK_NOTHROW(initialise(f.be, pair, lora_ga_init{.gamma = 64}, gram{}, f.gradient, frozen_pair_anchor{}));
  CHECK(test::distance(download(f.be, pair.start_a()), download(f.be, pair.a())) == 0);
}

TEST_CASE("gradients are zeroed by a start", "[initialise]") {
  test::fixture<> f(20, 15, 3);
  adapter ad(f.be, 20, 15, 3, rank_stable_scaling{});
  fill(f.be, ad.gradient(), 5);
  initialise(f.be, ad, lora_ga_init{}, f.weight.view(), gram{}, f.gradient, in_place_anchor{});
  CHECK(test::largest(download(f.be, ad.gradient())) == 0);
}
