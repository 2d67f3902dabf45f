// What a training step pays: gradient estimates and adapters.
#include "run.cuh"

namespace perf {

namespace {

using bf16 = loraga::bf16;
template <class T>
using memory = loraga::matrix<T, backend>;

/// One layer's activations and weight in bf16, as frameworks keep them: W by rows, activations features x tokens.
struct layer_data {
  index_t out, in, tokens;
  memory<bf16> w, x, y, dy, dx;
  layer_data(backend& be, index_t out_, index_t in_, index_t tokens_)
      : out(out_),
        in(in_),
        tokens(tokens_),
        w(be, in, out),
        x(be, in, tokens),
        y(be, out, tokens),
        dy(be, out, tokens),
        dx(be, in, tokens) {
    loraga::fill_normal(be, w.view(), {7, 1}, 0.02);
    loraga::fill_normal(be, x.view(), {7, 2}, 1);
    loraga::fill_normal(be, dy.view(), {7, 3}, 1e-3);
    loraga::fill(be, y.view(), 0);
  }
  view<bf16> weight() { return w.view().transposed(); }
  double flops() const {
    return 2.0 * static_cast<double>(out) * static_cast<double>(in) * static_cast<double>(tokens);
  }
};

/// Y - W*X and dX of the adapter alone, against products in float of what A and B hold.
template <class A>
double adapter_error(backend& be, layer_data& d, A& ad, typename A::tape& tape) {
  memory<float> a(be, ad.rank(), d.in), b(be, d.out, ad.rank()), h(be, ad.rank(), d.tokens), y(be, d.out, d.tokens);
  memory<float> x(be, d.in, d.tokens);
  loraga::convert(be, ad.a(), a.view());
  loraga::convert(be, ad.b(), b.view());
  loraga::convert(be, d.x.view(), x.view());
  be.gemm(1.0, a.view(), x.view(), 0.0, h.view());
  be.gemm(ad.scale(), b.view(), h.view(), 0.0, y.view());
  loraga::fill(be, d.y.view(), 0);
  ad.forward(be, d.weight(), d.x.view(), d.y.view(), tape);
  double const forward = relative_error(be, d.y.view(), y.view());
  (void)ad.backward(be, d.weight(), d.x.view(), d.dy.view(), tape, 0.0, d.dx.view());
  loraga::convert(be, d.dy.view(), y.view());
  be.gemm(ad.scale(), b.view().transposed(), y.view(), 0.0, h.view());
  be.gemm(1.0, a.view().transposed(), h.view(), 0.0, x.view());
  return std::max(forward, relative_error(be, d.dx.view(), x.view()));
}

void adapter_case(backend& be, settings const& how, index_t out, index_t in, bool pair) {
  std::string const shape = std::to_string(out) + "x" + std::to_string(in);
  layer_data d(be, how.side(out), how.side(in), how.side(4096));
  loraga::lora<bf16, backend> ad(be, d.out, d.in, how.rank(16), loraga::rank_stable_scaling{.alpha = 16});
  loraga::initialise(be, ad, loraga::gaussian_init{});
  loraga::fill_normal(be, ad.b(), {8, 1}, 0.02);
  ad.values_changed(be);
  typename loraga::lora<bf16, backend>::tape tape;
  tape.keep = true;  // backward is timed by itself
  double const error = pair ? -1 : adapter_error(be, d, ad, tape);
  if (pair) {
    ad.freeze_start(be, ad.a(), ad.b());
    ad.start(be, ad.a(), ad.b());
  }
  timed const line{be, how, "adapters"};
  std::string const kind = shape + (pair ? " frozen pair" : "");
  auto const product_forward = [&] { be.gemm(1.0, d.weight(), d.x.view(), 0.0, d.y.view()); };
  auto const forward = [&] { ad.forward(be, d.weight(), d.x.view(), d.y.view(), tape); };
  auto const backward = [&] { (void)ad.backward(be, d.weight(), d.x.view(), d.dy.view(), tape, 0.0, d.dx.view()); };
  auto const product_backward = [&](double beta) {
    be.gemm(1.0, d.weight().transposed(), d.dy.view(), beta, d.dx.view());
  };
  if (how.profiled) return profile(be, [&] { forward(), backward(); });
  if (!pair) {
    line(shape + " base forward", product_forward, -1, d.flops());
    line(
        shape + " base backward", [&] { product_backward(0.0); }, -1, d.flops());
  }
  forward();
  line(kind + " adapter forward", forward, error);
  line(kind + " adapter backward", backward, error);
  line(
      kind + " whole",
      [&] {
        product_forward();
        forward();
        ad.zero_gradient(be);
        backward();
        product_backward(1.0);
      },
      error, 2 * d.flops());
}

/// An incremental update of four layers of one shape in one call.
void updates_together(backend& be, settings const& how, layer_data& d, index_t rank) {
  using estimate = loraga::incremental_gradient<backend>;
  using part = typename estimate::layer_batch<view<bf16>, view<bf16>>;
  std::vector<estimate> layers;
  std::vector<part> parts;
  layers.reserve(4);
  for (int i = 0; i < 4; ++i) layers.emplace_back(be, d.out, d.in, loraga::gradient_options{.rank = how.rank(rank)});
  for (auto& l : layers) parts.push_back({&l, d.dy.view(), d.x.view()});
  auto const add = [&] { estimate::add_outer_all(be, std::span<part const>(parts)); };
  auto const t = time_of(be, how, add);
  result r("estimates", "incremental add_outer_all r=" + std::to_string(rank) + " layers=4");
  with_times(r, t).with("per_layer", t.median / 4).with("launches", launches_of(be, add));
  r.with("usable", layers.back().usable() ? 1 : 0).with("memory", memory_peak_of(be, add));
}

}  // namespace

void adapters(backend& be, settings const& how) {
  for (bool const pair : {false, true}) {
    adapter_case(be, how, 4096, 4096, pair);
    if (!how.profiled) adapter_case(be, how, 11008, 4096, pair);
  }
}

void estimates(backend& be, settings const& how) {
  layer_data d(be, how.side(4096), how.side(4096), how.side(2048));
  memory<bf16> narrow(be, d.out, d.in);
  memory<float> dw(be, d.out, d.in);
  timed const line{be, how, "estimates"};
  auto const x = d.x.view(), dy = d.dy.view();
  be.gemm(1.0, dy, x.transposed(), 0.0, dw.view());
  be.gemm(1.0, dy, x.transposed(), 0.0, narrow.view());
  line(
      "dW product to bf16", [&] { be.gemm(1.0, dy, x.transposed(), 0.0, narrow.view()); },
      relative_error(be, narrow.view(), dw.view()), d.flops());
  line(
      "dW product to float", [&] { be.gemm(1.0, dy, x.transposed(), 0.0, dw.view()); }, -1, d.flops());
  loraga::dense_gradient<backend> dense(be, d.out, d.in);
  line("dense add", [&] { dense.add(be, narrow.view()); });
  line("dense add of a dW by rows",
       [&] { dense.add(be, loraga::row_major<loraga::device_space>(narrow.view().data, d.out, d.in)); });
  line("dense add_outer", [&] { dense.add_outer(be, dy, x); });
  for (index_t const rank : {8, 32}) {
    loraga::incremental_gradient<backend> g(be, d.out, d.in, {.rank = how.rank(rank)});
    auto const add = [&] { g.add_outer(be, dy, x); };
    auto const t = time_of(be, how, add);
    result r("estimates", "incremental add_outer r=" + std::to_string(rank));
    with_times(r, t).with("launches", launches_of(be, add)).with("usable", g.usable() ? 1 : 0);
    r.with("memory", memory_peak_of(be, add));
    updates_together(be, how, d, rank);
  }
}

void offloaded(backend& be, settings const& how) {
  index_t const side = how.side(4096), number = how.number(8);
  loraga::background_worker<backend> worker(be);
  memory<float> dw(be, side, side);
  loraga::fill_normal(be, dw.view(), {10, 1}, 1);
  std::vector<loraga::offloaded_gradient<backend>> sums;
  for (index_t i = 0; i < number; ++i) sums.emplace_back(worker, be, side, side);
  auto const add = [&] {
    for (auto& s : sums) s.add(be, dw.view());
    (void)sums.back().total();
  };
  auto const t = time_of(be, how, add);
  memory<float> mean(be, side, side);
  sums.front().estimate(be, mean.view());
  result r("offloaded", "add of " + std::to_string(number) + " layers 4096x4096");
  with_times(r, t).with("bytes",
                        4 * static_cast<double>(number) * static_cast<double>(side) * static_cast<double>(side));
  r.with("error", relative_error(be, mean.view(), dw.view()));
}

}  // namespace perf
