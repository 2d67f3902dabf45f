#include <loraga/optim/adamw.hpp>

#include "../init/checks.hpp"

using namespace loraga;
using test::download;
using test::host;

namespace {

/// AdamW as its paper writes it, one matrix.
struct reference {
  host value, m, v;
  int t = 0;
  explicit reference(host start) : value(start), m(start.rows, start.cols), v(start.rows, start.cols) {}
  void step(host const& g, adamw_group const& o, double factor = 1) {
    ++t;
    double const rate = o.learning_rate * o.ratio * factor;
    for (std::size_t i = 0; i < g.data.size(); ++i) {
      m.data[i] = o.beta1 * m.data[i] + (1 - o.beta1) * g.data[i];
      v.data[i] = o.beta2 * v.data[i] + (1 - o.beta2) * g.data[i] * g.data[i];
      double const mh = m.data[i] / (1 - std::pow(o.beta1, t)), vh = v.data[i] / (1 - std::pow(o.beta2, t));
      value.data[i] = value.data[i] * (1 - rate * o.weight_decay) - rate * mh / (std::sqrt(vh) + o.epsilon);
    }
  }
};

template <class T>
struct trainable {
  matrix<T, test::backend> value;
  matrix<compute_t<T>, test::backend> gradient, master;
  trainable(test::backend& be, host const& start)
      : value(test::upload<T>(be, start)),
        gradient(be, start.rows, start.cols),
        master(test::upload<compute_t<T>>(be, download(be, value.view()))) {}
  parameter<T, test::space> parameter_of(bool by_rows = false) {
    parameter<T, test::space> p{"p", parameter_kind::other, value.view(), gradient.view(), master.view()};
    if (by_rows) p.value = p.value.transposed(), p.gradient = p.gradient.transposed(), p.master = p.master.transposed();
    return p;
  }
};

}  // namespace

TEST_CASE("adamw follows the paper, in any layout", "[optim]") {
  auto be = test::make_backend();
  for (bool const by_rows : {false, true}) {
    adamw_group const group{
        .learning_rate = 0.01, .ratio = 3, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.1};
    host const start = test::random(6, 5, 1);
    trainable<double> p(be, start);
    reference r(start);
    cosine_schedule const schedule{.total = 10, .warmup = 2};
    adamw<double, test::backend, cosine_schedule> opt(be, schedule);
    opt.add(be, opt.add_group(be, group), p.parameter_of(by_rows));
    for (int t = 0; t < 8; ++t) {
      host const g = test::random(6, 5, static_cast<std::uint64_t>(10 + t));
      test::upload_to<double>(be, g, p.gradient.view());
      opt.step(be);
      r.step(g, group, schedule.factor(t));
      CHECK(test::distance(download(be, p.value.view()), r.value) < 1e-13);
    }
  }
}

TEST_CASE("float and 16-bit values; the master keeps what 16 bits lose", "[optim]") {
  auto be = test::make_backend();
  adamw_group const group{.learning_rate = 1e-4};
  host const start(4, 3, 1.0);
  trainable<float> single(be, start);
  trainable<bf16> low(be, start);
  adamw<float, test::backend> opt(be);
  adamw<bf16, test::backend> low_opt(be);
  opt.add(be, opt.add_group(be, group), single.parameter_of());
  low_opt.add(be, low_opt.add_group(be, group), low.parameter_of());
  reference r(start);
  for (int t = 0; t < 60; ++t) {
    host const g(4, 3, 1.0);
    test::upload_to<float>(be, g, single.gradient.view());
    test::upload_to<float>(be, g, low.gradient.view());
    opt.step(be);
    low_opt.step(be);
    r.step(g, group);
  }
  CHECK(test::distance(download(be, single.value.view()), r.value) < 1e-6);
  CHECK(test::distance(download(be, low.master.view()), r.value) < 1e-6);
  // 60 steps of 1e-4: each alone is far below bf16's spacing at 1, all together are not
  CHECK(test::distance(download(be, low.value.view()), r.value) < 0.004);
  CHECK(download(be, low.value.view())(0, 0) < 1);
}

TEST_CASE("LoRA+: ratio 1 is LoRA bit for bit, others act on B alone, decay reaches both", "[optim]") {
  auto const train = [](double ratio, bool plain, double decay) {
    test::fixture<> f(12, 10, 2);
    lora<float, test::backend> ad(f.be, 12, 10, 2, classic_scaling{});
    initialise(f.be, ad, lora_ga_init{}, f.weight.view(), gram{}, f.gradient, in_place_anchor{});
    adamw<float, test::backend> opt(f.be);
    adamw_group const group{.learning_rate = 1e-3, .weight_decay = decay};
    if (plain) {
      auto const g = opt.add_group(f.be, group);
      for (auto const& p : ad.parameters()) opt.add(f.be, g, p);
    } else {
      add_adapter(f.be, opt, ad, group, ratio);
    }
    for (int t = 0; t < 5; ++t) {
      test::upload_to<float>(f.be, test::random(2 * 22, 1, static_cast<std::uint64_t>(t)), ad.gradient());
      opt.step(f.be);
    }
    return std::pair{read_all(f.be, ad.a()), read_all(f.be, ad.b())};
  };
  auto const lora_way = train(1, true, 0.01), same = train(1, false, 0.01), faster = train(16, false, 0.01);
  CHECK(lora_way == same);
  CHECK(lora_way.first == faster.first);
  CHECK(lora_way.second != faster.second);
  auto const no_decay = train(1, false, 0);
  CHECK(no_decay.first != same.first);
  CHECK(no_decay.second != same.second);
}

TEST_CASE("bad groups and parameters are refused by name", "[optim]") {
  auto be = test::make_backend();
  adamw<float, test::backend> opt(be);
  CHECK_THROWS_AS(opt.add_group(be, {.learning_rate = -1}), value_error);
  CHECK_THROWS_AS(opt.add_group(be, {.ratio = NAN}), value_error);
  CHECK_THROWS_AS(opt.add_group(be, {.beta1 = 1}), value_error);
  CHECK_THROWS_AS(opt.add_group(be, {.beta2 = -0.1}), value_error);
  CHECK_THROWS_AS(opt.add_group(be, {.epsilon = -1}), value_error);
  CHECK_THROWS_AS(opt.add_group(be, {.epsilon = 0}), value_error);  // 0/0 where a gradient is 0
  CHECK_THROWS_AS(opt.add_group(be, {.weight_decay = INFINITY}), value_error);
  trainable<float> p(be, host(3, 2));
  CHECK_THROWS_AS(opt.add(be, 0, p.parameter_of()), value_error);
  auto const g = opt.add_group(be, {});
  auto bad = p.parameter_of();
  bad.gradient = bad.gradient.columns(0, 1);
  CHECK_THROWS_AS(opt.add(be, g, bad), shape_error);
  auto nowhere = p.parameter_of();
  nowhere.gradient.data = nullptr;
  CHECK_THROWS_AS(opt.add(be, g, nowhere), shape_error);
  opt.add(be, g, p.parameter_of());
  CHECK_THROWS_AS(opt.add(be, g, p.parameter_of()), state_error);  // a tied layer's is added once
  adamw<bf16, test::backend> low(be);
  trainable<bf16> q(be, host(3, 2));
  auto no_master = q.parameter_of();
  no_master.master = {};
  CHECK_THROWS_AS(low.add(be, low.add_group(be, {}), no_master), shape_error);
  CHECK_THROWS_AS((adamw<float, test::backend, cosine_schedule>(be, {.total = 0})), value_error);
}

TEST_CASE("adapters of equal settings share groups, whose rates can be changed", "[optim]") {
  auto be = test::make_backend();
  adamw<float, test::backend> opt(be);
  std::vector<lora<float, test::backend>> adapters;
  for (int i = 0; i < 5; ++i) adapters.emplace_back(be, 6, 5, 2, classic_scaling{});
  for (auto& ad : adapters) add_adapter(be, opt, ad, {.learning_rate = 1e-3}, 16);
  CHECK(opt.groups() == 2);  // A and B
  lora<float, test::backend> more(be, 6, 5, 2, classic_scaling{});
  add_adapter(be, opt, more, {.learning_rate = 1e-3});
  CHECK(opt.groups() == 2);
  auto const own = opt.add_group(be, {.learning_rate = 1e-3});  // equal, and yet another: to be changed on its own
  CHECK(own == 2);
  CHECK(opt.learning_rate(own) == 1e-3);

  trainable<float> p(be, host(3, 2, 1.0));
  opt.add(be, own, p.parameter_of());
  reference r(host(3, 2, 1.0));
  for (double const rate : {1e-3, 5e-2, 0.0}) {
    opt.set_learning_rate(own, rate);
    host const g(3, 2, 0.5);
    test::upload_to<float>(be, g, p.gradient.view());
    opt.step(be);
    r.step(g, {.learning_rate = rate});
    CHECK(test::distance(download(be, p.value.view()), r.value) < 1e-6);
  }
  CHECK(opt.learning_rate(0) == 1e-3);
  CHECK_THROWS_AS(opt.set_learning_rate(3, 1), value_error);
  CHECK_THROWS_AS(opt.set_learning_rate(own, -1), value_error);
  CHECK_THROWS_AS(opt.set_learning_rate(own, NAN), value_error);
  CHECK_THROWS_AS(opt.learning_rate(3), value_error);
}

TEST_CASE("a step without parameters, or for an adapter that is gone, is refused and changes nothing", "[optim]") {
  auto be = test::make_backend();
  adamw<float, test::backend> opt(be);
  CHECK_THROWS_WITH(opt.step(be), Catch::Contains("without parameters"));
  using A = lora<float, test::backend>;
  std::vector<A> adapters;
  adapters.emplace_back(be, 6, 5, 2, classic_scaling{});
  initialise(be, adapters[0], kaiming_init{});
  add_adapter(be, opt, adapters[0], {.learning_rate = 1e-1});
  fill(be, adapters[0].gradient(), 1);
  opt.step(be);
  A there = std::move(adapters[0]);  // its memory moves along
  adapters.clear();
  opt.step(be);
  host const before = download(be, there.a());
  auto other = std::make_unique<A>(be, 6, 5, 2, classic_scaling{});
  initialise(be, *other, kaiming_init{});
  add_adapter(be, opt, *other, {.learning_rate = 1e-1});
  other.reset();
  CHECK_THROWS_WITH(opt.step(be), Catch::Contains("lora_A is of an adapter that is gone"));
  CHECK(test::distance(download(be, there.a()), before) == 0);
}
