#pragma once
#include <loraga/initialise.hpp>

#include "../support/backend.hpp"
#include "tools_model.hpp"

namespace test {

using tools::start_method;

struct captured_layer {
  std::string name;
  host w, dy[2], x[2];

  captured_layer(std::string n, index_t out, index_t in, double ratio, std::uint64_t seed) : name(std::move(n)) {
    w = test::random(out, in, seed);
    for (std::uint64_t b : {0, 1}) {
      // directions of falling size, so that ranks differ
      dy[b] = test::random(24, out, seed + 10 + b) * test::diagonal(out, out, test::geometric(out, ratio));
      x[b] = test::random(24, in, seed + 20 + b) * test::diagonal(in, in, test::geometric(in, 0.95));
    }
  }
};

/// A model of three layers, and what was captured of it: the same file for gradients and inputs.
struct captured_model {
  test::folder folder;
  cpu be{1};
  std::vector<captured_layer> layers{{"l.0.q", 12, 10, 0.95, 1}, {"l.0.v", 8, 10, 0.3, 50}, {"l.1.q", 9, 14, 0.7, 100}};
  tools::init_options options;

  captured_model() {
    test::named_weights weights, captured;
    for (auto const& l : layers) {
      weights.emplace_back(l.name + ".weight", l.w);
      for (int b : {0, 1}) {
        captured.emplace_back(l.name + ".dY." + std::to_string(b), l.dy[b]);
        captured.emplace_back(l.name + ".X." + std::to_string(b), l.x[b]);
      }
    }
    test::write_model(folder / "base", weights);
    test::write_model(folder / "captured", captured);
    options.base = folder / "base";
    options.out = folder / "out";
    options.rank = 2;
    options.targets.names = {"q", "v"};
    options.seed = 3;
    options.may_replace = overwrite::yes;
  }
  void use(start_method method) {
    options.method = method;
    options.gradients.clear();
    options.gradients = options.needs_gradients() ? folder / "captured" : "";
    options.inputs = options.needs_inputs() ? folder / "captured" : "";
    options.relative_to.reset();
    options.anchored_base.clear();
    if (options.has_anchor()) options.relative_to = peft_base::original;
  }
  std::vector<adapter_record> run() {
    tools::init_job(be, options).run();
    return load_peft(options.out, peft_base::anchored).records;
  }
  std::string refusal() {
    return test::message_of([&] { tools::init_job(be, options).run(); });
  }

  template <class G>
  G gradient(captured_layer const& l) {
    G g(be, l.w.rows, l.w.cols);
    for (int b : {0, 1}) {
      auto const dy = test::upload<float>(be, test::transpose(l.dy[b])),
                 x = test::upload<float>(be, test::transpose(l.x[b]));
      g.add_outer(be, dy.view(), x.view());
    }
    return g;
  }
  input_statistics<cpu> inputs(captured_layer const& l, bool by_peak = false) {
    input_statistics<cpu> s(be, l.w.cols, {by_peak});
    for (int b : {0, 1}) s.add(be, test::upload<float>(be, test::transpose(l.x[b])).view());
    return s;
  }
  template <class A = lora<float, cpu>, class I, class G, class Svd, class X>
  adapter_record started(captured_layer const& l, I const& init, G const* source, Svd const& svd, X const& anchor,
                         double s, index_t rank = 2) {
    A adapter(be, l.w.rows, l.w.cols, rank, constant_scaling{s});
    auto const w = test::upload<float>(be, l.w);
    layer<A, matrix_view<float const, host_space>, G> const list[] = {{&adapter, w.view(), source, l.name}};
    initialise(be, std::span<std::remove_extent_t<decltype(list)>>(list), init, svd, anchor);
    return take_record(be, adapter, l.name);
  }
};

}  // namespace test
