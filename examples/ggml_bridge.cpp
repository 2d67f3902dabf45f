// LoRA-GA around quantised tensors of ggml: a graph of two linear layers, one in Q4_0 and one in Q8_0, is fine-tuned.
// ggml computes W*x, and W is never written; A and B are ggml's tensors, too. Look for loraga:: and bridge::.
// `bash tests/ggml/run.sh` fetches ggml, builds this file and runs it. With another ggml in $GGML:
//
// g++ -std=c++20 -O3 -march=native -Iinclude -isystem /usr/include/eigen3 -isystem $GGML/include -L$GGML/lib
//   examples/ggml_bridge.cpp -o ggml_bridge -Wl,-rpath,$GGML/lib -lggml -lggml-cpu -lggml-base -pthread
//
// ggml counts dimensions from the inside: a weight out x in has ne = (in, out), tokens x features (features, tokens).
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <loraga/cpu.hpp>
#include <loraga/ggml/linear.hpp>
#include <random>
#include <vector>

namespace {

namespace bridge = loraga::ggml_bridge;
using layer = bridge::linear<loraga::cpu>;
constexpr int in = 128, hidden = 256, out = 64, tokens = 128, rank = 8, steps = 60, threads = 2;

std::vector<float> normal(std::size_t n, unsigned seed, double deviation) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> draw(0, deviation);
  std::vector<float> values(n);
  for (float& x : values) x = static_cast<float>(draw(engine));
  return values;
}

/// The frozen weights, quantised, and what the teacher has instead: the same and a change.
struct weights {
  ggml_context* context = ggml_init({std::size_t{4} << 20, nullptr, false});
  std::array<ggml_tensor*, 2> packed{ggml_new_tensor_2d(context, GGML_TYPE_Q4_0, in, hidden),
                                     ggml_new_tensor_2d(context, GGML_TYPE_Q8_0, hidden, out)};
  std::array<ggml_tensor*, 2> teacher{ggml_new_tensor_2d(context, GGML_TYPE_F32, in, hidden),
                                      ggml_new_tensor_2d(context, GGML_TYPE_F32, hidden, out)};
  std::array<bridge::factor_tensors, 2> factors{bridge::new_factors(context, hidden, in, rank, "first.weight"),
                                                bridge::new_factors(context, out, hidden, rank, "second.weight")};
  weights() {
    for (unsigned i = 0; i < 2; ++i) {
      ggml_set_name(packed[i], i == 0 ? "first.weight" : "second.weight");
      double const deviation = std::sqrt(2.0 / static_cast<double>(packed[i]->ne[0]));
      auto const n = static_cast<std::size_t>(ggml_nelements(packed[i]));
      auto const base = normal(n, 1 + i, deviation), change = normal(n, 11 + i, 0.3 * deviation);
      ggml_quantize_chunk(packed[i]->type, base.data(), packed[i]->data, 0, packed[i]->ne[1], packed[i]->ne[0],
                          nullptr);
      for (std::size_t k = 0; k < n; ++k) ggml_get_data_f32(teacher[i])[k] = base[k] + change[k];
      for (auto* t : {factors[i].a, factors[i].b, factors[i].da, factors[i].db}) ggml_set_zero(t);
    }
  }
  ~weights() { ggml_free(context); }
  weights(weights const&) = delete;
  weights& operator=(weights const&) = delete;
};

/// One graph of ggml's: x to y by some two linear layers.
struct network {
  ggml_context* context = ggml_init({std::size_t{1} << 20, nullptr, true});
  ggml_backend_t backend = ggml_backend_cpu_init();
  ggml_gallocr_t allocator = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend));
  ggml_cgraph* graph = ggml_new_graph(context);
  ggml_tensor *x = ggml_new_tensor_2d(context, GGML_TYPE_F32, in, tokens), *h = nullptr, *y = nullptr;

  /// apply(i, x) makes layer i's nodes.
  template <class F>
  explicit network(F const& apply) {
    ggml_set_input(x);
    h = ggml_relu(context, apply(context, 0, x));
    y = apply(context, 1, h);
    ggml_set_output(y);
    ggml_build_forward_expand(graph, y);
    ggml_gallocr_alloc_graph(allocator, graph);
    ggml_backend_cpu_set_n_threads(backend, threads);
  }
  ~network() {
    ggml_gallocr_free(allocator);
    ggml_backend_free(backend);
    ggml_free(context);
  }
  network(network const&) = delete;
  network& operator=(network const&) = delete;

  std::vector<float> operator()(std::vector<float> const& values) const {
    ggml_backend_tensor_set(x, values.data(), 0, ggml_nbytes(x));
    ggml_backend_graph_compute(backend, graph);
    auto const* const results = ggml_get_data_f32(y);
    return {results, results + ggml_nelements(y)};
  }
};

/// A forward and a backward: the mean over tokens of half the squared error, and gradients.
struct trainer {
  network const& student;
  network const& teacher;
  std::array<layer, 2>& layers;
  std::array<layer::pass, 2>& passes;
  std::vector<float> dy = std::vector<float>(out * tokens), dh = std::vector<float>(hidden * tokens);

  double operator()(unsigned batch) {
    auto const x = normal(in * tokens, 1000 + batch, 1), target = teacher(x), y = student(x);
    double loss = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      dy[i] = (y[i] - target[i]) / tokens;
      loss += static_cast<double>(dy[i]) * static_cast<double>(y[i] - target[i]) / 2;
    }
    auto const dH = loraga::activations(dh.data(), tokens, hidden);
    layers[1].backward(passes[1], loraga::activations(dy.data(), tokens, out), dH);
    auto const H = bridge::activations(student.h);  // the graph keeps it
    for (int t = 0; t < tokens; ++t)
      for (int i = 0; i < hidden; ++i) dH(i, t) = H(i, t) > 0 ? dH(i, t) : 0.f;
    layers[0].backward(passes[0], dH);
    return loss;
  }
};

double largest_difference(std::vector<float> const& a, std::vector<float> const& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(static_cast<double>(a[i] - b[i])));
  return most;
}

int run() {
  loraga::cpu be(threads);
  weights w;
  std::vector<char> const packed(static_cast<char*>(w.packed[0]->data),
                                 static_cast<char*>(w.packed[0]->data) + ggml_nbytes(w.packed[0]));
  loraga::rank_stable_scaling const scaling{.alpha = 16};
  std::array<layer, 2> layers{layer(be, w.packed[0], w.factors[0], scaling),
                              layer(be, w.packed[1], w.factors[1], scaling)};
  std::array<layer::pass, 2> passes;
  network const student([&](auto* c, unsigned i, auto* x) { return layers[i].build(c, x, passes[i]); });
  network const teacher([&](auto* c, unsigned i, auto* x) { return ggml_mul_mat(c, w.teacher[i], x); });
  network const base([&](auto* c, unsigned i, auto* x) { return ggml_mul_mat(c, w.packed[i], x); });
  trainer train{student, teacher, layers, passes};
  auto const probe = normal(in * tokens, 5, 1);

  // 1. Estimate each weight's gradient from a few batches, without forming it.
  std::array gradients{loraga::incremental_gradient<loraga::cpu>(be, hidden, in, {.rank = rank}),
                       loraga::incremental_gradient<loraga::cpu>(be, out, hidden, {.rank = rank})};
  for (unsigned i = 0; i < 2; ++i) layers[i].watch([&, i](auto dy, auto x) { gradients[i].add_outer(be, dy, x); });
  for (unsigned batch = 0; batch < 4; ++batch) train(500 + batch);

  // 2. Start. The frozen pair leaves W alone: the model is the quantised one, to the last bit.
  loraga::adamw<float, loraga::cpu> optimiser(be);
  for (unsigned i = 0; i < 2; ++i) {
    layers[i].watch({});
    auto& adapter = layers[i].adapter();
    loraga::initialise(be, adapter, loraga::lora_ga_init{.gamma = 64}, gradients[i], loraga::frozen_pair_anchor{});
    loraga::add_adapter(be, optimiser, adapter, {.learning_rate = 1e-3});
  }
  bool const unchanged = student(probe) == base(probe);

  // 3. Train.
  double first = 0, last = 0;
  for (unsigned step = 0; step < steps; ++step) {
    for (auto& l : layers) l.adapter().zero_gradient(be);
    last = train(step);
    optimiser.step(be);
    if (step == 0) first = last;
    if (step % 20 == 0) std::printf("step %3u  loss %.4f\n", step, last);
  }

  // 4. Factors for any graph of ggml's, without this library: llama.cpp's layout, of rank 2r because of the start.
  std::array<ggml_tensor*, 2> a, b;
  std::array<float, 2> scales;
  for (unsigned i = 0; i < 2; ++i) {
    a[i] = ggml_new_tensor_2d(w.context, GGML_TYPE_F32, w.packed[i]->ne[0], 2 * rank);
    b[i] = ggml_new_tensor_2d(w.context, GGML_TYPE_F32, 2 * rank, w.packed[i]->ne[1]);
    auto const record = loraga::take_record(be, layers[i].adapter(), w.packed[i]->name);
    double const alpha = bridge::write_factors(record, a[i], b[i]);
    scales[i] = static_cast<float>(alpha / (2 * rank));
  }
  network const served([&](auto* c, unsigned i, auto* x) {
    auto* const change = ggml_mul_mat(c, b[i], ggml_mul_mat(c, a[i], x));
    return ggml_add(c, ggml_mul_mat(c, w.packed[i], x), ggml_scale(c, change, scales[i]));
  });
  auto const y = student(probe);
  double const gap = largest_difference(y, served(probe));
  bool const frozen = std::memcmp(packed.data(), w.packed[0]->data, packed.size()) == 0;
  std::printf("loss %.4f -> %.4f; started at the base: %s; W untouched: %s; ggml alone differs by %.1e\n", first, last,
              unchanged ? "yes" : "no", frozen ? "yes" : "no", gap);
  return unchanged && frozen && last < 0.8 * first && gap < 0.05 ? 0 : 1;
}

}  // namespace

int main() try { return run(); } catch (std::exception const& failure) {
  std::fprintf(stderr, "ggml_bridge: %s\n", failure.what());
  return 1;
}
