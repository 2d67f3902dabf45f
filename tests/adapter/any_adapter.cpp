#include <loraga/adapter/any_adapter.hpp>

#include "../init/checks.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

TEST_CASE("an adapter chosen at run time computes what its class does", "[adapter]") {
  using any = any_adapter<float, test::backend>;
  auto const check = [&]<class A>(adapter_kind kind, A*) {
    test::fixture<> f(12, 9, 2);
    auto& be = f.be;
    A one(be, 12, 9, 2, rank_stable_scaling{4}, {.dropout = 0.25, .seed = 5});
    any chosen(kind, be, 12, 9, 2, rank_stable_scaling{4}, {.dropout = 0.25, .seed = 5});
    CHECK(chosen.template get<A>() != nullptr);
    CHECK(chosen.out() == 12);
    CHECK(chosen.in() == 9);
    CHECK(chosen.rank() == 2);
    CHECK(chosen.seed() == 5);
    CHECK(chosen.scale() == one.scale());
    CHECK(chosen.trainable() == one.trainable());
    CHECK(chosen.gradient().rows == one.trainable());
    initialise(be, one, pissa_init{}, f.weight.view(), frozen_pair_anchor{});
    initialise(be, chosen, pissa_init{}, f.weight.view(), frozen_pair_anchor{});
    adamw<float, test::backend> opt(be), opt2(be);
    add_adapter(be, opt, one, {.learning_rate = 1e-2});
    add_adapter(be, opt2, chosen, {.learning_rate = 1e-2});
    auto x = upload<float>(be, test::random(9, 7, 4)), dy = upload<float>(be, test::random(12, 7, 5));
    auto product = upload<float>(be, f.w * download(be, x.view()));
    typename A::tape t1;
    typename any::tape t2;
    for (int step = 0; step < 3; ++step) {
      auto y1 = upload<float>(be, host(12, 7)), y2 = upload<float>(be, host(12, 7));
      auto dx1 = upload<float>(be, host(9, 7)), dx2 = upload<float>(be, host(9, 7));
      one.forward(be, f.weight.view(), x.view(), y1.view(), t1);
      if (step == 1) chosen.forward(be, f.weight.view(), x.view(), product.view(), y2.view(), t2);
      else chosen.forward(be, f.weight.view(), x.view(), y2.view(), t2);
      CHECK(test::distance(download(be, y1.view()), download(be, y2.view())) < 1e-5);
      one.zero_gradient(be), chosen.zero_gradient(be);
      auto const z1 = one.backward(be, f.weight.view(), x.view(), dy.view(), t1, 0, dx1.view());
      auto const z2 = chosen.backward(be, f.weight.view(), x.view(), dy.view(), t2, 0, dx2.view());
      CHECK(test::distance(download(be, z1), download(be, z2)) < 1e-5);
      CHECK(test::distance(download(be, dx1.view()), download(be, dx2.view())) < 1e-5);
      opt.step(be), opt2.step(be);
    }
    CHECK(test::distance(download(be, one.a()), download(be, std::as_const(chosen).a())) < 1e-4);
    auto w1 = upload<float>(be, f.w), w2 = upload<float>(be, f.w);
    one.merge(be, w1.view()), chosen.merge(be, w2.view());
    CHECK(test::distance(download(be, w1.view()), download(be, w2.view())) < 1e-4);
    CHECK(chosen.merged());
    chosen.unmerge(be, w2.view());
    CHECK(test::distance(download(be, w2.view()), f.w) < 1e-5);
  };
  check(adapter_kind::lora, static_cast<lora<float, test::backend>*>(nullptr));
  check(adapter_kind::dora, static_cast<dora<float, test::backend>*>(nullptr));
  check(adapter_kind::adalora, static_cast<adalora<float, test::backend>*>(nullptr));
  check(adapter_kind::lora_sb, static_cast<lora_sb<float, test::backend>*>(nullptr));
}

TEST_CASE("what would not compile for a class is refused by name for a choice at run time", "[adapter]") {
  using any = any_adapter<bf16, test::backend>;
  test::fixture<bf16> f(12, 9, 2);
  auto& be = f.be;
  any pruned(adapter_kind::adalora, be, 12, 9, 2, rank_stable_scaling{}),
      small(adapter_kind::lora_sb, be, 12, 9, 2, rank_stable_scaling{}),
      plain(adapter_kind::lora, be, 12, 9, 2, rank_stable_scaling{});
  CHECK_THROWS_WITH(initialise(be, pruned, lora_ga_init{}, f.weight.view(), f.gradient, in_place_anchor{}),
                    Catch::Contains("frozen_pair_anchor"));
  CHECK_THROWS_WITH(initialise(be, small, lora_ga_init{}, f.gradient, frozen_pair_anchor{}),
                    Catch::Contains("lora_sb_init"));
  CHECK(test::distance(download(be, f.weight.view()), f.w) < 1e-2);
  CHECK_NOTHROW(initialise(be, plain, lora_ga_init{}, f.weight.view(), f.gradient, in_place_anchor{}));
  // a 16-bit dY comes back as it is where adapters compute in that, else in float, whichever adapter it is
  auto x = upload<bf16>(be, test::random(9, 7, 4)), y = upload<bf16>(be, test::random(12, 7, 5));
  typename any::tape t;
  plain.forward(be, f.weight.view(), x.view(), y.view(), t);
  host const dy = download(be, y.view());
  auto const seen = plain.backward(be, f.weight.view(), x.view(), y.view(), t);
  static_assert(std::is_same_v<decltype(seen)::value_type, inner_t<test::backend, bf16>>);
  CHECK(test::distance(download(be, seen), dy) == 0);
}
