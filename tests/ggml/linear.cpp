#include <loraga/ggml/linear.hpp>

#include "tensors.hpp"

using namespace loraga;
namespace bridge = ggml_bridge;
using test::contains, test::context, test::reference, test::thrown;

namespace {

constexpr index_t in = 64, out = 48, tokens = 10, rank = 4;
constexpr double s = 8;  // 16/sqrt(4)

/// One layer in a graph, its tensors and gradients, all in one context's memory.
struct one_layer {
  context c;
  cpu be{2};
  ggml_tensor *w, *x = test::matrix(c, GGML_TYPE_F32, in, tokens, 2), *y = nullptr,
                  *dy = test::matrix(c, GGML_TYPE_F32, out, tokens, 3),
                  *dx = ggml_new_tensor_2d(c, GGML_TYPE_F32, in, tokens);
  bridge::factor_tensors f = bridge::new_factors(c, out, in, rank, "blk.0.attn_q.weight");
  bridge::linear<cpu> layer;
  bridge::linear<cpu>::pass pass;
  ggml_cgraph* graph = ggml_new_graph(c);

  explicit one_layer(ggml_type type = GGML_TYPE_Q8_0)
      : w(test::matrix(c, type, in, out, 1)), layer((zero(f), be), w, f, rank_stable_scaling{.alpha = 16}) {
    y = layer.build(c, x, pass);
    ggml_build_forward_expand(graph, y);
  }
  static void zero(bridge::factor_tensors const& f) {
    for (auto* t : {f.a, f.b, f.da, f.db}) ggml_set_zero(t);
  }
  void start() {
    test::fill(f.a, 4, 0.3);
    test::fill(f.b, 5, 0.3);
    layer.adapter().values_changed(be);
  }
  void compute(int threads = 2) { REQUIRE(ggml_graph_compute_with_ctx(c, graph, threads) == GGML_STATUS_SUCCESS); }
  /// What ggml alone makes of another graph's end.
  reference computed(ggml_tensor* end) {
    auto* const other = ggml_new_graph(c);
    ggml_build_forward_expand(other, end);
    REQUIRE(ggml_graph_compute_with_ctx(c, other, 2) == GGML_STATUS_SUCCESS);
    return reference(end);
  }
  reference seen() const { return reference(y); }
};

auto view_of(ggml_tensor* t) { return bridge::activations(t); }

}  // namespace

TEST_CASE("Factors lie as llama.cpp's adapters do", "[ggml]") {
  context c;
  auto const f = bridge::new_factors(c, out, in, rank, "blk.0.attn_q.weight");
  CHECK(std::string(f.a->name) == "blk.0.attn_q.weight.lora_a");
  CHECK(std::string(f.b->name) == "blk.0.attn_q.weight.lora_b");
  CHECK((f.a->ne[0] == in && f.a->ne[1] == rank && f.b->ne[0] == rank && f.b->ne[1] == out));
  auto const borrowed = bridge::borrowed(f);
  CHECK((borrowed.a.rows == rank && borrowed.a.cols == in && borrowed.b.rows == out && borrowed.b.cols == rank));
  CHECK((borrowed.da.data == f.da->data && borrowed.db.data == f.db->data));
  CHECK_THROWS_AS(bridge::new_factors(c, out, in, 0, "w"), value_error);
}

TEST_CASE("The layer's output is ggml's product and the adapter's share", "[ggml]") {
  auto const type = GENERATE(GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q8_0);
  one_layer l(type);
  l.start();
  auto const base = l.computed(ggml_mul_mat(l.c, l.w, l.x));
  auto const share = s * (reference(l.x) * reference(l.f.a).transposed() * reference(l.f.b).transposed());
  for (int const threads : {1, 3}) {
    l.compute(threads);
    l.pass.check();
    CHECK(test::difference(l.seen(), base + share) < 1e-6);
  }
  // As a fork runs the same tensors by itself.
  auto* const h = ggml_mul_mat(l.c, l.f.a, l.x);
  auto* const alone = ggml_add(l.c, ggml_mul_mat(l.c, l.w, l.x), ggml_scale(l.c, ggml_mul_mat(l.c, l.f.b, h), s));
  CHECK(test::difference(l.seen(), l.computed(alone)) < 1e-6);
}

TEST_CASE("The layer's backward agrees with double", "[ggml]") {
  auto const type = GENERATE(GGML_TYPE_F32, GGML_TYPE_Q4_0, GGML_TYPE_Q8_0);
  one_layer l(type);
  l.start();
  l.compute();
  test::fill(l.dx, 6);
  reference const x(l.x), dy(l.dy), a(l.f.a), b(l.f.b), w(l.w), old(l.dx);
  l.layer.backward(l.pass, view_of(l.dy), view_of(l.dx), 1);
  auto const expected_dx = old + dy * w + s * (dy * b * a);
  CHECK(test::difference(reference(l.dx), expected_dx) < 1e-6);
  CHECK(test::difference(reference(l.f.da), s * ((dy * b).transposed() * x)) < 1e-6);
  CHECK(test::difference(reference(l.f.db), s * (dy.transposed() * (x * a.transposed()))) < 1e-6);

  SECTION("into a dX that holds anything") {
    l.compute();
    l.layer.backward(l.pass, view_of(l.dy), view_of(l.dx));
    CHECK(test::difference(reference(l.dx), dy * w + s * (dy * b * a)) < 1e-6);
  }
  SECTION("without dX") {
    l.layer.adapter().zero_gradient(l.be);
    l.compute();
    l.layer.backward(l.pass, view_of(l.dy));
    CHECK(test::difference(reference(l.f.da), s * ((dy * b).transposed() * x)) < 1e-6);
  }
}

TEST_CASE("LoRA-GA around a quantised weight starts where ggml is, and learns in ggml's tensors", "[ggml]") {
  one_layer l(GGML_TYPE_Q4_0);
  auto const bytes = [&] {
    auto const* const p = static_cast<char const*>(l.w->data);
    return std::string(p, p + ggml_nbytes(l.w));
  };
  auto const packed = bytes();
  auto const base = l.computed(ggml_mul_mat(l.c, l.w, l.x));
  incremental_gradient<cpu> streamed(l.be, out, in, {.rank = rank});
  dense_gradient<cpu> dense(l.be, out, in);
  l.layer.watch([&](auto dy, auto x) {
    streamed.add_outer(l.be, dy, x);
    dense.add_outer(l.be, dy, x);
  });
  l.compute();
  CHECK(l.seen().values == base.values);  // no start: nothing is added
  l.layer.backward(l.pass, view_of(l.dy), view_of(l.dx));
  CHECK(test::difference(reference(l.dx), reference(l.dy) * reference(l.w)) < 1e-6);
  l.layer.watch({});
  loraga::matrix<float, cpu> gradient(l.be, out, in);
  dense.estimate(l.be, gradient.view());
  CHECK(test::difference(gradient.view(), reference(l.dy).transposed() * reference(l.x)) < 1e-5);

  initialise(l.be, l.layer.adapter(), lora_ga_init{}, streamed, frozen_pair_anchor{});
  CHECK(reference(l.f.a).values != reference(in, rank).values);
  l.compute();
  CHECK(l.seen().values == base.values);

  adamw<float, cpu> optimiser(l.be);
  add_adapter(l.be, optimiser, l.layer.adapter(), {.learning_rate = 1e-2});
  reference const before(l.f.b);
  l.layer.backward(l.pass, view_of(l.dy), view_of(l.dx));
  optimiser.step(l.be);
  CHECK(test::difference(reference(l.f.b), before) > 1e-3);
  CHECK(bytes() == packed);
  l.compute();
  CHECK(test::difference(l.seen(), base) > 1e-3);

  // Of rank 2r, in three types, run by ggml alone.
  auto const record = take_record(l.be, l.layer.adapter(), "blk.0.attn_q");
  for (auto const type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16}) {
    auto *const a = ggml_new_tensor_2d(l.c, type, in, 2 * rank), *const b =
                                                                     ggml_new_tensor_2d(l.c, type, 2 * rank, out);
    double const alpha = bridge::write_factors(record, a, b);
    CHECK(alpha == Approx(s * 2 * rank));
    auto* const h = ggml_mul_mat(l.c, a, l.x);
    auto* const added = ggml_scale(l.c, ggml_mul_mat(l.c, b, h), static_cast<float>(alpha / (2 * rank)));
    auto const served = l.computed(ggml_add(l.c, ggml_mul_mat(l.c, l.w, l.x), added));
    CHECK(test::difference(l.seen(), served) < (type == GGML_TYPE_F32 ? 1e-5 : 0.05));
  }
}

TEST_CASE("A start that factors W takes it unpacked", "[ggml]") {
  one_layer l(GGML_TYPE_Q8_0);
  auto const w = bridge::unpacked(l.be, l.w);
  auto const base = l.computed(ggml_mul_mat(l.c, l.w, l.x));
  initialise(l.be, l.layer.adapter(), pissa_init{}, w.view(), frozen_pair_anchor{});
  l.compute();
  CHECK(l.seen().values == base.values);
}

TEST_CASE("X is still there when backward asks, whatever a graph allocator reuses", "[ggml]") {
  context weights, c(true);
  cpu be(1);
  auto* const w = test::matrix(weights, GGML_TYPE_F32, in, in, 7, 0.1);
  auto const f = bridge::new_factors(weights, in, in, rank, "w");
  one_layer::zero(f);
  test::fill(f.a, 8, 0.1);
  test::fill(f.b, 9, 0.1);
  bridge::linear<cpu> layer(be, w, f, rank_stable_scaling{.alpha = 16});
  auto* const x = ggml_new_tensor_2d(c, GGML_TYPE_F32, in, tokens);
  ggml_set_input(x);
  bridge::linear<cpu>::pass first, second;
  auto* const h = ggml_relu(c, layer.build(c, x, first));
  auto* end = layer.build(c, ggml_reshape_2d(c, h, in, tokens), second);  // a view of what must stay
  for (int i = 0; i < 4; ++i) end = ggml_mul_mat(c, w, end);
  ggml_set_output(end);
  auto* const graph = ggml_new_graph(c);
  ggml_build_forward_expand(graph, end);
  auto* const backend = ggml_backend_cpu_init();
  auto* const allocator = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend));
  REQUIRE(ggml_gallocr_alloc_graph(allocator, graph));
  auto const values = test::normal(in * tokens, 10);
  ggml_backend_tensor_set(x, values.data(), 0, ggml_nbytes(x));
  REQUIRE(ggml_backend_graph_compute(backend, graph) == GGML_STATUS_SUCCESS);

  auto const whole = reference(w).transposed() + s * (reference(f.a).transposed() * reference(f.b).transposed());
  auto expected = reference(x) * whole;
  for (double& v : expected.values) v = std::max(v, 0.0);
  CHECK(test::difference(reference(h), expected) < 1e-5);
  auto* const dy = test::matrix(weights, GGML_TYPE_F32, in, tokens, 11);
  layer.backward(second, view_of(dy));
  CHECK(test::difference(reference(f.db), s * (reference(dy).transposed() * (expected * reference(f.a).transposed()))) <
        1e-5);
  ggml_gallocr_free(allocator);
  ggml_backend_free(backend);
}

TEST_CASE("What fails within a graph spoils its result and is thrown afterwards", "[ggml]") {
  one_layer l;
  CHECK(contains(thrown<state_error>([&] { l.pass.check(); }), "not computed"));
  l.compute();  // an adapter that was never started
  for (double const y : l.seen().values) REQUIRE(std::isnan(y));
  CHECK(contains(thrown<state_error>([&] { l.pass.check(); }), "without a start"));
  CHECK(contains(thrown<state_error>([&] { l.layer.backward(l.pass, view_of(l.dy)); }), "without a start"));
  l.start();
  l.compute();
  l.pass.check();
  CHECK_FALSE(std::isnan(l.seen().values[0]));
}

TEST_CASE("Layers, passes and activations that do not fit are refused before anything changes", "[ggml]") {
  one_layer l;
  l.start();
  l.compute();
  auto const build = [&](ggml_tensor* x) { l.layer.build(l.c, x, l.pass); };
  CHECK(contains(thrown<value_error>([&] { build(nullptr); }), "null pointer"));
  CHECK(contains(thrown<value_error>([&] { build(ggml_new_tensor_2d(l.c, GGML_TYPE_F16, in, tokens)); }), "F32"));
  CHECK(
      contains(thrown<shape_error>([&] { build(ggml_new_tensor_2d(l.c, GGML_TYPE_F32, out, tokens)); }), "ne[0] = 64"));

  one_layer other;
  CHECK(contains(thrown<state_error>([&] { other.layer.build(other.c, other.x, l.pass); }), "another layer"));
  CHECK(contains(thrown<state_error>([&] { other.layer.backward(l.pass, view_of(l.dy)); }), "another layer"));
  bridge::linear<cpu>::pass unused;
  CHECK(contains(thrown<state_error>([&] { l.layer.backward(unused, view_of(l.dy)); }), "of none"));

  CHECK_THROWS_AS(l.layer.backward(l.pass, view_of(l.x), view_of(l.dx)), shape_error);
  CHECK_THROWS_AS(l.layer.backward(l.pass, view_of(l.dy), view_of(l.dy)), shape_error);
  for (double const x : reference(l.f.da).values) REQUIRE(x == 0);
  l.layer.backward(l.pass, view_of(l.dy), view_of(l.dx));
  CHECK(contains(thrown<state_error>([&] { l.layer.backward(l.pass, view_of(l.dy)); }), "not computed"));

  auto const make = [&](ggml_tensor* w, bridge::factor_tensors const& f) {
    bridge::linear<cpu> const layer(l.be, w, f, rank_stable_scaling{.alpha = 16});
  };
  auto* const turned = test::matrix(l.c, GGML_TYPE_Q8_0, 96, out, 1);
  CHECK(contains(thrown<shape_error>([&] { make(turned, l.f); }), "48x96"));
  CHECK_THROWS_AS(make(nullptr, l.f), value_error);
  auto mixed = l.f;
  std::swap(mixed.da, mixed.db);
  CHECK_THROWS_AS(make(l.w, mixed), shape_error);
  mixed = l.f;
  mixed.da = mixed.a;
  CHECK_THROWS_AS(make(l.w, mixed), alias_error);
  mixed.a = ggml_new_tensor_2d(l.c, GGML_TYPE_F16, in, rank);
  CHECK_THROWS_AS(make(l.w, mixed), value_error);
}

TEST_CASE("Factors are written whole or not at all", "[ggml]") {
  one_layer l;
  l.start();
  auto record = take_record(l.be, l.layer.adapter(), "w");
  auto *const a = ggml_new_tensor_2d(l.c, GGML_TYPE_F32, in, rank), *const b = ggml_new_tensor_2d(l.c, GGML_TYPE_F32,
                                                                                                  rank, out);
  for (auto* t : {a, b}) ggml_set_zero(t);
  auto const untouched = [&] { return reference(a).values == reference(rank, in).values; };
  auto* const wide = ggml_new_tensor_2d(l.c, GGML_TYPE_F32, 2 * rank, out);
  CHECK_THROWS_AS(bridge::write_factors(record, a, wide), shape_error);
  CHECK_THROWS_AS(bridge::write_factors(record, a, nullptr), value_error);
  CHECK(contains(
      thrown<value_error>([&] { bridge::write_factors(record, a, ggml_new_tensor_2d(l.c, GGML_TYPE_Q8_0, 32, out)); }),
      "expected f32"));
  auto large = record;
  large.b.values[0] = 1e5f;
  auto* const half = ggml_new_tensor_2d(l.c, GGML_TYPE_F16, rank, out);
  CHECK_THROWS_AS(bridge::write_factors(large, a, half), numeric_error);
  auto nothing = record;
  nothing.scale = 0;
  CHECK_THROWS_AS(bridge::write_factors(nothing, a, b), value_error);
  auto rescaled = record;
  rescaled.magnitude = record_matrix(out, 1);
  CHECK_THROWS_AS(bridge::write_factors(rescaled, a, b), state_error);
  auto convolution = record;
  convolution.layer = {layer_form::convolution, 2, 2};
  CHECK_THROWS_AS(bridge::write_factors(convolution, a, b), value_error);
  CHECK(untouched());

  CHECK(bridge::write_factors(record, a, b) == Approx(s * rank));
  CHECK(reference(a).values == reference(l.f.a).values);
  auto pruned = record;
  pruned.e = record_matrix(rank, 1);
  std::fill(pruned.e.values.begin(), pruned.e.values.end(), 0.5f);
  bridge::write_factors(pruned, a, b);
  CHECK(test::difference(reference(b), 0.5 * reference(l.f.b)) == 0);
}
