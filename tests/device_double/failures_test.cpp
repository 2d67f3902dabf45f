// Every CUDA call may fail: whichever does, the user hears its name, no layer is half changed, nothing is leaked.
#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "device_double.hpp"

using namespace loraga;
using test::backend;
using test::host;

namespace {

/// What is alive in the double; equal before and after means that nothing leaked.
struct inventory {
  std::size_t device = device_double::live_device_allocations(), pinned = device_double::live_host_allocations(),
              handles = device_double::live_handles();
  bool operator==(inventory const&) const = default;
};

/// Three layers of one shape with their gradients, ready to be initialised together.
struct three_layers {
  static constexpr index_t out = 40, in = 30, tokens = 20;
  using adapter = lora<float, backend>;
  using gradient = dense_gradient<backend>;
  using layer_of = layer<adapter, test::view<float>, gradient>;
  backend be;
  std::vector<adapter> adapters;
  std::vector<gradient> gradients;
  std::vector<matrix<float, backend>> weights;
  std::vector<layer_of> layers;

  three_layers() {
    for (std::uint64_t i = 0; i < 3; ++i) {
      adapters.emplace_back(be, out, in, 4, rank_stable_scaling{});
      gradients.emplace_back(be, out, in);
      weights.push_back(test::upload<float>(be, test::random(out, in, i)));
      auto const dy = test::upload<float>(be, test::random(out, tokens, 10 + i)),
                 x = test::upload<float>(be, test::random(in, tokens, 20 + i));
      gradients.back().add_outer(be, dy.view(), x.view());
    }
    for (std::size_t i = 0; i < 3; ++i)
      layers.push_back({&adapters[i], weights[i].view(), &gradients[i], "layer-" + std::to_string(i)});
  }
  template <class Svd, class Anchor = in_place_anchor>
  void start(Svd const& svd, Anchor const& anchor = {}) {
    initialise(be, std::span<layer_of const>(layers), lora_ga_init{}, svd, anchor);
  }
};

/// LoRA-GA over three layers, then a training step, then a merge: most of what the library asks of CUDA.
void whole_life() {
  three_layers l;
  auto& be = l.be;
  auto& adapters = l.adapters;
  auto& weights = l.weights;
  index_t const out = l.out, in = l.in, tokens = l.tokens;
  l.start(subspace{.width = 12, .iterations = 1});
  auto x = test::upload<float>(be, test::random(in, tokens, 1));
  matrix<float, backend> y(be, out, tokens), dx(be, in, tokens);
  three_layers::adapter::tape tape;
  be.gemm(1, weights[0].view(), x.view(), 0, y.view());
  adapters[0].forward(be, weights[0].view(), x.view(), y.view(), tape);
  (void)adapters[0].backward(be, weights[0].view(), x.view(), y.view(), tape, 0, dx.view());
  adapters[0].merge(be, weights[0].view());
  be.synchronize();
}

/// Fails the nth call of a function, for every n until a life passes untouched; true if it was ever called.
bool survives_failures_of(char const* function, int status) {
  for (int nth = 1; nth < 400; ++nth) {
    inventory const before;
    long const complaints = device_double::complaints();
    device_double::fail_next(function, status, nth);
    bool named = false, failed = false;
    try {
      whole_life();
    } catch (backend_error const& e) {
      failed = true;
      std::string const message = e.what(), call = function;
      named = message.find(call.substr(0, call.find("_v2"))) != std::string::npos ||
              message.find(call.substr(0, call.find("_64"))) != std::string::npos;
    }
    bool const untouched = device_double::pending() > 0;
    device_double::forget_requests();
    INFO(function << " call " << nth);
    CHECK(inventory() == before);
    CHECK(device_double::complaints() == complaints);
    if (untouched) {
      CHECK(!failed);
      return nth > 1;
    }
    CHECK(failed);
    CHECK(named);
  }
  return false;
}

}  // namespace

TEST_CASE("a failed CUDA call is named, whichever it is, and leaks nothing", "[failures]") {
  REQUIRE_NOTHROW(whole_life());
  for (char const* function : {"cudaStreamCreateWithFlags", "cudaStreamIsCapturing", "cudaMallocFromPoolAsync",
                               "cudaMemcpyAsync", "cudaStreamSynchronize", "cudaPointerGetAttributes"})
    CHECK(survives_failures_of(function, cudaErrorUnknown));
  for (char const* function :
       {"cublasCreate_v2", "cublasSetStream_v2", "cublasSetMathMode", "cublasSetWorkspace_v2", "cublasGemmEx_64",
        "cublasGemmStridedBatchedEx_64", "cublasGemmBatchedEx_64", "cublasDtrsmBatched_64"})
    CHECK(survives_failures_of(function, CUBLAS_STATUS_INTERNAL_ERROR));
  for (char const* function :
       {"cusolverDnCreate", "cusolverDnCreateParams", "cusolverDnSetStream", "cusolverDnDpotrfBatched",
        "cusolverDnXsyevBatched_bufferSize", "cusolverDnXsyevBatched"})
    CHECK(survives_failures_of(function, CUSOLVER_STATUS_INTERNAL_ERROR));
}

namespace {

/// Fails every allocation of one `initialise` in turn: until one passes, the layer must be as it was.
template <class W, class Anchor>
void check_memory_failures(Anchor anchor) {
  auto be = test::make_backend();
  auto dw = test::upload<float>(be, test::random(40, 30, 1));
  auto w = test::upload<W>(be, test::random(40, 30, 2));
  dense_gradient<backend> g(be, 40, 30);
  g.add(be, dw.view());
  lora<float, backend> ad(be, 40, 30, 4, rank_stable_scaling{});
  host const before = test::download(be, w.view());
  int failures = 0;
  for (int nth = 1; nth < 200; ++nth) {
    backend fresh;  // without the scratch memory of earlier rounds
    device_double::fail_next("cudaMallocFromPoolAsync", cudaErrorMemoryAllocation, nth);
    bool failed = false;
    try {
      initialise(fresh, ad, lora_ga_init{}, w.view(), subspace{.width = 12}, g, anchor);
    } catch (backend_error const& e) {
      failed = true;
      CHECK(e.code == cudaErrorMemoryAllocation);
    }
    device_double::forget_requests();
    if (!failed) break;
    ++failures;
    INFO("allocation " << nth);
    CHECK(test::distance(test::download(fresh, w.view()), before) == 0);
    CHECK(test::largest(test::download(fresh, ad.a())) == 0);
    CHECK(!ad.paired());
  }
  CHECK(failures > 5);
  CHECK(test::largest(test::download(be, ad.a())) > 0);
}

}  // namespace

TEST_CASE("running out of memory in initialise leaves the layer as it was", "[failures]") {
  check_memory_failures<float>(in_place_anchor{});
  check_memory_failures<bf16>(in_place_anchor{});  // whose product needs scratch of W's size
  check_memory_failures<float>(frozen_pair_anchor{});
}

namespace {

/// Anchors layers one by one, in place of all together.
struct anchor_in_turn : in_place_anchor {
  static constexpr bool in_steps = false;
};

/// Fails every call of a function in one start of three layers, in turn. What the message says of each layer must be
/// so. Returns how many starts failed while layers changed.
template <class Anchor>
int check_failed_starts(char const* function, int status) {
  int late = 0;
  for (int nth = 1; nth < 400; ++nth) {
    three_layers l;
    std::vector<host> before;
    for (auto& w : l.weights) before.push_back(test::download(l.be, w.view()));
    device_double::fail_next(function, status, nth);
    std::string message;
    try {
      l.start(subspace{.width = 12, .iterations = 1}, Anchor{});
    } catch (backend_error const& e) {
      message = e.what();
    }
    bool const untouched = device_double::pending() > 0;
    device_double::forget_requests();
    INFO(function << " call " << nth << ": " << message);
    REQUIRE(message.empty() == untouched);
    if (untouched) return late;
    auto const says = [&](char const* what) { return message.find(what) != std::string::npos; };
    bool const in_turn = says("layers before it are initialised"),
               unknown = says("which of them are initialised is not known");
    late += in_turn || unknown;
    if (unknown) continue;
    std::size_t started = 0;
    if (in_turn)
      while (started < 3 && !says(("initialise(layer-" + std::to_string(started)).c_str())) ++started;
    REQUIRE(started < 3);
    for (std::size_t i = 0; i < 3; ++i) {
      INFO("layer " << i);
      auto& ad = l.adapters[i];
      host const w = test::download(l.be, l.weights[i].view());
      CHECK(ad.started() == (i < started));
      if (i < started) {
        CHECK(test::largest(test::change_of(l.be, ad)) > 0);
        CHECK(test::distance(w + test::change_of(l.be, ad), before[i]) <= 1e-5 * test::norm(before[i]));
      } else {
        CHECK(test::distance(w, before[i]) == 0);
        CHECK(test::largest(test::download(l.be, ad.a())) == 0);
        CHECK(test::largest(test::download(l.be, ad.b())) == 0);
      }
    }
  }
  return late;
}

}  // namespace

TEST_CASE("a start that fails while layers change says truly what became of each", "[failures]") {
  int together = 0, in_turn = 0;
  for (char const* function : {"cudaMallocFromPoolAsync", "cudaMemcpyAsync", "cudaStreamSynchronize"}) {
    together += check_failed_starts<in_place_anchor>(function, cudaErrorUnknown);
    in_turn += check_failed_starts<anchor_in_turn>(function, cudaErrorUnknown);
  }
  for (char const* function : {"cublasGemmEx_64", "cublasGemmStridedBatchedEx_64", "cublasGemmBatchedEx_64"}) {
    together += check_failed_starts<in_place_anchor>(function, CUBLAS_STATUS_INTERNAL_ERROR);
    in_turn += check_failed_starts<anchor_in_turn>(function, CUBLAS_STATUS_INTERNAL_ERROR);
  }
  CHECK(together > 2);
  CHECK(in_turn > 2);
}

TEST_CASE("a bad layer of a batch is named, the others are initialised, nothing leaks", "[failures]") {
  inventory const before;
  {
    three_layers l;
    host bad = test::random(l.out, l.in, 10);
    bad(3, 5) = NAN;
    l.gradients[1].add(l.be, test::upload<float>(l.be, bad).view());
    CHECK_THROWS_WITH(l.start(automatic_svd{}),
                      Catch::Contains("layer-1 is not finite") && !Catch::Contains("layer-0"));
    CHECK(test::largest(test::download(l.be, l.adapters[0].a())) > 0);
    CHECK(test::largest(test::download(l.be, l.adapters[1].a())) == 0);
    CHECK(test::largest(test::download(l.be, l.adapters[2].a())) > 0);
  }
  CHECK(inventory() == before);
}

TEST_CASE("an eigensolver that gives up is asked again with caution, and is then a flag of that matrix", "[failures]") {
  auto be = test::make_backend();
  auto a = test::upload<float>(be, test::random(20, 12, 1));
  device_double::info_next("cusolverDnXsyevBatched", 3);
  CHECK(test::factor(be, gram{}, a, 4).flags[0] == svd_usable);
  device_double::info_next("cusolverDnXsyevBatched", 3);
  device_double::info_next("cusolverDnXsyevBatched", 3, 2);  // with noise
  device_double::info_next("cusolverDnXsyevBatched", 3, 3);  // alone
  CHECK(test::factor(be, gram{}, a, 4).flags[0] == svd_not_converged);
  CHECK(device_double::pending() == 0);
  CHECK(test::factor(be, gram{}, a, 4).flags[0] == svd_usable);
}

TEST_CASE("many layers are few calls", "[failures]") {
  auto be = test::make_backend();
  std::vector<matrix<float, backend>> memory;
  std::vector<const_view<float, test::space>> views;
  for (std::uint64_t i = 0; i < 16; ++i) {
    memory.push_back(test::upload<float>(be, test::random(40, 30, i)));
    views.push_back(memory.back().view());
  }
  char const* const batched[] = {"cublasGemmBatchedEx_64", "cublasGemmStridedBatchedEx_64", "cusolverDnXsyevBatched",
                                 "cudaStreamSynchronize"};
  std::vector<long> before;
  for (auto const* f : batched) before.push_back(device_double::calls(f));
  long const single = device_double::calls("cublasGemmEx_64");
  auto const r = subspace{.width = 12, .iterations = 1}.top(be, view_list(views.data(), 16), 4);
  CHECK(r.flags == std::vector<int>(16, 0));
  CHECK(device_double::calls("cublasGemmEx_64") == single);
  CHECK(device_double::calls(batched[0]) - before[0] == 4);  // A*Omega, AT*Q, A*Z, AT*Q
  CHECK(device_double::calls(batched[2]) - before[2] == 1);
  CHECK(device_double::calls(batched[3]) - before[3] <= 4);  // energies, flags, host memory of the eigensolver
}

TEST_CASE("a fork, a background worker and an offloaded sum leak nothing", "[failures]") {
  inventory const before;
  {
    backend be;
    background_worker<backend> worker(be);
    offloaded_gradient<backend> home(worker, be, 12, 9, {.panel_bytes = 200});
    background_gradient<incremental_gradient<backend>, backend> behind(worker, 12, 9, gradient_options{.rank = 2});
    auto const dy = test::upload<float>(be, test::random(12, 5, 1)), x = test::upload<float>(be, test::random(9, 5, 2));
    home.add_outer(be, dy.view(), x.view());
    behind.add_outer(be, dy.view(), x.view());
    worker.join();
    device_double::fail_next("cudaMallocFromPoolAsync", cudaErrorMemoryAllocation);
    CHECK_THROWS_AS(home.top(be, gram{}, 2), backend_error);
    CHECK(home.top(be, gram{}, 2).flags[0] == svd_usable);
  }
  CHECK(inventory() == before);
}
