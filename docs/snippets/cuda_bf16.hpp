// Adapters in bf16 around a linear layer whose weight, product, stream and handles are the caller's own: shown in
// docs/gpu.md, run by tests/backend/cuda_bf16.cu, captured in a graph by tests/cuda/graph.cu.
#pragma once
#include <cublas_v2.h>
#include <cuda_bf16.h>

#include <loraga/cuda.cuh>

/// Y = W*X in bf16 with fp32 sums. W is out x in, activations are tokens x features, all by rows, as in PyTorch.
struct adapted_linear {
  using adapter = loraga::lora<loraga::bf16, loraga::cuda>;  // A and B in bf16, with a float master copy

  int out, in, tokens;
  __nv_bfloat16 *w, *x, *y, *dx, *dy;
  adapter& lora;
  adapter::tape tape = {};  // what backward needs; keep it from step to step

  auto weight() const { return loraga::row_major<loraga::device_space>(reinterpret_cast<loraga::bf16*>(w), out, in); }
  auto seen(__nv_bfloat16* p, int features) const {
    return loraga::activations<loraga::device_space>(reinterpret_cast<loraga::bf16*>(p), tokens, features);
  }

  void forward(loraga::cuda& be, cublasHandle_t blas) {
    float const one = 1, zero = 0;
    cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, out, tokens, in, &one, w, CUDA_R_16BF, in, x, CUDA_R_16BF, in, &zero,
                 y, CUDA_R_16BF, out, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    lora.forward(be, weight(), seen(x, in), seen(y, out), tape);  // Y += s*B*A*X
  }
  /// The adapter's share of dX first; then the base's is added to it.
  void backward(loraga::cuda& be, cublasHandle_t blas) {
    auto const used = lora.backward(be, weight(), seen(x, in), seen(dy, out), tape, 0.0, seen(dx, in));
    float const one = 1;
    cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, in, tokens, out, &one, w, CUDA_R_16BF, in, used.data, CUDA_R_16BF, out,
                 &one, dx, CUDA_R_16BF, in, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  }
};

/// The caller's loop: LoRA-GA from micro-batches, then steps. `loss(layer)` reads y and writes dy on the same stream.
template <class Loss>
void fine_tune(cudaStream_t stream, cublasHandle_t blas, cusolverDnHandle_t solver, adapted_linear& layer,
               Loss const& loss, int steps) {
  loraga::cuda be(stream, blas, solver);  // all borrowed; set both handles to the stream before
  auto const batch = [&] {
    layer.forward(be, blas);
    loss(layer);
  };

  loraga::initialise(be, layer.lora, loraga::kaiming_init{});  // B = 0: passes see the base alone
  loraga::dense_gradient<loraga::cuda> gradient(be, layer.out, layer.in);
  batch();  // as many micro-batches as there are
  gradient.add_outer(be, layer.seen(layer.dy, layer.out), layer.seen(layer.x, layer.in));
  loraga::initialise(be, layer.lora, loraga::lora_ga_init{.gamma = 64}, loraga::automatic_svd{}, gradient,
                     loraga::frozen_pair_anchor{});  // W, in 16 bit, stays as it is

  loraga::adamw<loraga::bf16, loraga::cuda> optimiser(be);
  loraga::add_adapter(be, optimiser, layer.lora, {.learning_rate = 1e-3});
  loraga::matrix<double, loraga::cuda> norm(be, 1, 1);
  loraga::matrix_view<float, loraga::device_space> const gradients[] = {layer.lora.gradient()};
  for (int i = 0; i < steps; ++i) {
    batch();
    layer.lora.zero_gradient(be);
    layer.backward(be, blas);
    loraga::clip_gradients(be, gradients, 1.0, norm.view());
    optimiser.step(be);
  }
  be.synchronize();
}
