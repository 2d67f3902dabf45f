#include <loraga/start/needs.hpp>

#include "../init/checks.hpp"

using namespace loraga;
using test::backend;

namespace {

using adapter = lora<float, backend>;

/// A need's check of one layer.
template <class N, class L>
void look(N const& need, L const& l, bool sampled = true) {
  need.check(l, "here", sampled);
}

}  // namespace

TEST_CASE("needs refuse sources by name, and empty ones only after the sample", "[start]") {
  auto be = test::make_backend();
  adapter ad(be, 12, 9, 2, classic_scaling{});
  dense_gradient<backend> empty(be, 12, 9), other(be, 9, 12);
  layer const none{&ad, no_weight{}, static_cast<dense_gradient<backend> const*>(nullptr)};
  layer const fresh{&ad, no_weight{}, &empty}, wrong{&ad, no_weight{}, &other};
  auto const check = [&](auto const& need) {
    CHECK_THROWS_WITH(look(need, none), Catch::Contains("gradient is null"));
    CHECK_THROWS_WITH(look(need, wrong), Catch::Contains("gradient is 9x12, expected 12x9"));
    CHECK_THROWS_AS(look(need, fresh), state_error);
    CHECK_NOTHROW(look(need, fresh, false));
  };
  check(gradient_triplets{4});
  check(whole_gradient{});
  incremental_gradient<backend> narrow(be, 12, 9, {.rank = 2, .width = 3});
  CHECK_THROWS_WITH(look(gradient_triplets{4}, layer{&ad, no_weight{}, &narrow}, false),
                    Catch::Contains("an estimate of 3 triplets, expected 4 for r = 2"));
  input_statistics<backend> inputs(be, 9), peaks(be, 9, {.by_peak = true}), longer(be, 10);
  auto const of = [&](input_statistics<backend> const& s) { return layer{&ad, no_weight{}, &s}; };
  CHECK_THROWS_WITH(look(input_directions{2}, of(longer)), Catch::Contains("inputs is 10x1"));
  CHECK_THROWS_WITH(look(input_directions{2}, of(peaks), false), Catch::Contains("without by_peak"));
  CHECK_THROWS_WITH(look(input_weighted_triplets{2}, of(peaks), false), Catch::Contains("W is not given"));
  CHECK_THROWS_AS(look(input_directions{2}, of(inputs)), state_error);
  CHECK_NOTHROW(look(input_directions{2}, of(inputs), false));
}

TEST_CASE("W is asked for where it is needed, and only there", "[start]") {
  auto be = test::make_backend();
  adapter ad(be, 12, 9, 2, classic_scaling{});
  auto const w = test::upload<float>(be, test::random(12, 9, 1));
  using layer_of = layer<adapter, test::view<float const>>;
  layer_of const with{&ad, w.view()}, missing{&ad, {}};
  CHECK_THROWS_WITH(look(weight_triplets{2}, missing), Catch::Contains("W is not given"));
  CHECK_THROWS_WITH(look(whole_weight{}, missing), Catch::Contains("W is not given"));
  CHECK_NOTHROW(look(optional_weight_triplets{0}, missing));
  CHECK_THROWS_AS(look(optional_weight_triplets{1}, missing), value_error);
  CHECK_NOTHROW(look(optional_weight{false}, missing));
  CHECK_NOTHROW(look(whole_weight{}, with));
  layer_of const* const one = &with;
  std::span<layer_of const* const> const layers(&one, 1);
  auto const found = weight_triplets{all_triplets}.measure(be, layers, gram{});
  CHECK(found.triplets() == 9);
  CHECK(optional_weight_triplets{0}.measure(be, layers, gram{}).triplets() == 0);
  CHECK((whole_weight{}.measure(be, layers, gram{})[0].data == w.view().data));
}

TEST_CASE("the whole gradient is read layer by layer, with what is wrong with it", "[start]") {
  auto be = test::make_backend();
  adapter ad(be, 3, 2, 1, classic_scaling{});
  dense_gradient<backend> good(be, 3, 2), zero(be, 3, 2), bad(be, 3, 2);
  auto const g = test::random(3, 2, 1);
  good.add(be, test::upload<float>(be, g).view());
  zero.add(be, test::upload<float>(be, test::host(3, 2)).view());
  bad.add(be, test::upload<float>(be, test::host(3, 2, NAN)).view());
  layer const a{&ad, no_weight{}, &good}, b{&ad, no_weight{}, &zero}, c{&ad, no_weight{}, &bad};
  std::vector const layers{&a, &b, &c};
  auto measured = whole_gradient{}.measure(be, std::span<decltype(a)* const>(layers), gram{});
  CHECK(test::distance(test::download(be, measured[0]), g) < 1e-6);
  for (index_t i = 1; i < 3; ++i) (void)measured[i];
  CHECK(measured.flags == std::vector<int>{svd_usable, svd_zero, svd_not_finite});
}
