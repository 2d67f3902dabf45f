// The snippet of docs/gpu.md: bf16 adapters around a product of the caller's own, with borrowed stream and handles.
#include "../../docs/snippets/cuda_bf16.hpp"
#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;

namespace {

/// dY = (Y - target)/tokens.
struct distance_to {
  matrix_view<bf16, device_space> y, target, dy;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    dy(i, j) = bf16((static_cast<float>(y(i, j)) - static_cast<float>(target(i, j))) / static_cast<float>(y.cols));
  }
};

}  // namespace

TEST_CASE("bf16 adapters train around a product of the caller's own", "[cuda][docs]") {
  int const out = 48, in = 32, tokens = 64;
  cudaStream_t stream = nullptr;
  cublasHandle_t blas = nullptr;
  cusolverDnHandle_t solver = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == 0);
  REQUIRE(cublasCreate(&blas) == 0);
  REQUIRE(cublasSetStream(blas, stream) == 0);
  REQUIRE(cusolverDnCreate(&solver) == 0);
  REQUIRE(cusolverDnSetStream(solver, stream) == 0);
  double before = 0, after = 0;
  {
    loraga::cuda be(stream);
    matrix<bf16, loraga::cuda> w(be, in, out), x(be, in, tokens), y(be, out, tokens), target(be, out, tokens),
        dx(be, in, tokens), dy(be, out, tokens);
    fill_normal(be, w.view(), {1, 1}, 0.2);
    fill_normal(be, x.view(), {1, 2}, 1);
    fill_normal(be, target.view(), {1, 3}, 1);
    lora<bf16, loraga::cuda> adapter(be, out, in, 4, rank_stable_scaling{});
    auto const raw = [](auto& m) { return reinterpret_cast<__nv_bfloat16*>(m.view().data); };
    adapted_linear layer{out, in, tokens, raw(w), raw(x), raw(y), raw(dx), raw(dy), adapter};
    auto const loss = [&](adapted_linear const&) {
      be.for_each(out, tokens, distance_to{y.view(), target.view(), dy.view()});
    };
    auto const distance = [&] {
      matrix<double, loraga::cuda> sum(be, 1, 1);
      sum_of_squares(be, dy.view(), sum.view());
      return read_scalar(be, sum.view());
    };
    fine_tune(stream, blas, solver, layer, loss, 1);
    before = distance();
    fine_tune(stream, blas, solver, layer, loss, 60);
    after = distance();
  }
  CHECK(after < 0.95 * before);
  cusolverDnDestroy(solver);
  cublasDestroy(blas);
  cudaStreamDestroy(stream);
}
