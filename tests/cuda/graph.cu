// A training step captured in a CUDA graph: replays follow the same path as steps that are called, bit for bit.
#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::backend;

namespace {

/// One layer trained towards a target: forward, backward, clipping, AdamW with a schedule.
template <class T>
struct training {
  static constexpr index_t out = 96, in = 64, tokens = 128, rank = 4;
  backend be;
  matrix<T, backend> w{be, out, in}, x{be, in, tokens}, y{be, out, tokens}, target{be, out, tokens}, dx{be, in, tokens};
  matrix<double, backend> norm{be, 1, 1};
  lora<T, backend> ad;
  typename lora<T, backend>::tape tape;
  adamw<T, backend, cosine_schedule> opt;

  bool clips_in_step;  // the optimiser's own zeroing and clipping

  training(double dropout, bool pair, bool in_step)
      : ad(be, out, in, rank, rank_stable_scaling{}, {.dropout = dropout, .seed = 5}),
        opt(be, {.total = 40, .warmup = 5}),
        clips_in_step(in_step) {
    fill_normal(be, w.view(), {1, 1}, 0.1);
    fill_normal(be, x.view(), {1, 2}, 1);
    fill_normal(be, target.view(), {1, 3}, 1);
    initialise(be, ad, gaussian_init{.seed = 3});
    if (pair) test::freeze(be, ad);
    add_adapter(be, opt, ad, {.learning_rate = 1e-2, .weight_decay = 0.01}, 16);
  }
  void step() {
    be.gemm(1.0, w.view(), x.view(), 0.0, y.view());
    ad.forward(be, w.view(), x.view(), y.view(), tape);
    axpby(be, -1.0, target.view(), 1.0, y.view());
    if (clips_in_step) opt.zero_gradients(be);
    else ad.zero_gradient(be);
    (void)ad.backward(be, w.view(), x.view(), y.view(), tape, 0.0, dx.view());
    be.gemm(1.0, w.view().transposed(), y.view(), 1.0, dx.view());
    if (clips_in_step) return opt.step(be, 1.0, norm.view());
    matrix_view<float, device_space> const gradients[] = {ad.gradient()};
    clip_gradients(be, std::span<matrix_view<float, device_space> const>(gradients), 1.0, norm.view());
    opt.step(be);
  }
  std::pair<std::vector<float>, std::vector<float>> state() {
    auto const a = test::download(be, ad.a()), b = test::download(be, ad.b());
    return {std::vector<float>(a.data.begin(), a.data.end()), std::vector<float>(b.data.begin(), b.data.end())};
  }
};

template <class T>
void check_replay(double dropout, bool pair, bool clips_in_step = false) {
  INFO("dropout " << dropout << " pair " << pair << " clips in step " << clips_in_step);
  training<T> called(dropout, pair, clips_in_step), replayed(dropout, pair, clips_in_step);
  for (int i = 0; i < 12; ++i) called.step();

  replayed.step();  // takes the memory of its shapes
  replayed.step();
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamBeginCapture(replayed.be.stream(), cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  std::string failure;
  try {
    replayed.step();
  } catch (error const& e) {
    failure = e.what();
  }
  auto const ended = cudaStreamEndCapture(replayed.be.stream(), &graph);  // whatever happened
  REQUIRE(failure == "");
  REQUIRE(ended == cudaSuccess);
  cudaGraphExec_t replay = nullptr;
  REQUIRE(cudaGraphInstantiate(&replay, graph, 0) == cudaSuccess);
  auto const before = replayed.state();
  for (int i = 0; i < 10; ++i) REQUIRE(cudaGraphLaunch(replay, replayed.be.stream()) == cudaSuccess);
  auto const after = replayed.state();
  CHECK(after != before);
  CHECK(after == called.state());
  if (dropout > 0) CHECK(replayed.ad.dropout_passes(replayed.be) == 12);
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
}

}  // namespace

TEST_CASE("a captured training step replays right", "[graph]") {
  for (double const dropout : {0.0, 0.2})
    for (bool const pair : {false, true}) check_replay<float>(dropout, pair);
  check_replay<bf16>(0.2, false);
  check_replay<float>(0.2, false, true);
  check_replay<bf16>(0.0, true, true);
}
