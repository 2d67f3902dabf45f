// A plain CUDA training loop of the kind people write themselves (raw pointers, a stream, cuBLAS, kernels of its own)
// that takes LoRA-GA in: estimate the gradient, initialise, train, merge, write the weights. Look for loraga::.
//
// The task: a two-layer network was trained elsewhere, and shall now follow a teacher that differs in both weights.
// Arrays lie as in llm.c and PyTorch: weights out x in by rows, activations tokens x features by rows.
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <loraga/cuda.cuh>
#include <vector>

namespace {

constexpr int in = 256, hidden = 512, out = 128, tokens = 512, rank = 8, steps = 100;

void check(int status, char const* what) {
  if (status == 0) return;
  std::fprintf(stderr, "%s: status %d\n", what, status);
  std::exit(1);
}

float* device_array(std::size_t n) {
  float* p = nullptr;
  check(cudaMalloc(reinterpret_cast<void**>(&p), n * sizeof(float)), "cudaMalloc");
  return p;
}

// --- kernels -------------------------------------------------------------------------------------------------------

#ifdef __CUDACC__
template <class F>
__global__ void each_kernel(int n, F f) {
  int const i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) f(i);
}
#endif
template <class F>
void each(cudaStream_t stream, int n, F f) {
#ifdef __CUDACC__
  each_kernel<<<(n + 255) / 256, 256, 0, stream>>>(n, f);
  check(cudaPeekAtLastError(), "each");
#else  // the tests run this file on the host as well
  (void)stream;
  for (int i = 0; i < n; ++i) f(i);
#endif
}

struct relu {
  float const* x;
  float* y;
  LORAGA_HD void operator()(int i) const { y[i] = x[i] > 0 ? x[i] : 0; }
};
struct relu_backward {
  float const* x;
  float* d;
  LORAGA_HD void operator()(int i) const { d[i] = x[i] > 0 ? d[i] : 0; }
};
struct squared_error {  // of a mean over tokens
  float const *y, *target;
  float *dy, *loss;
  LORAGA_HD void operator()(int i) const {
    float const e = y[i] - target[i];
    dy[i] = e / tokens;
    loss[i] = e * e / (2 * tokens);
  }
};

// --- a linear layer, and where an adapter comes in -------------------------------------------------------------------

struct linear {
  int rows, cols;
  float* w;
  std::vector<loraga::lora<float, loraga::cuda>> adapter = {};  // one, once it is attached
  loraga::lora<float, loraga::cuda>::tape tape = {};
  loraga::dense_gradient<loraga::cuda>* watcher = nullptr;

  auto weight() const { return loraga::row_major<loraga::device_space>(w, rows, cols); }

  void forward(loraga::cuda& be, cublasHandle_t blas, float* x, float* y) {
    float const one = 1, zero = 0;
    check(cublasSgemm(blas, CUBLAS_OP_T, CUBLAS_OP_N, rows, tokens, cols, &one, w, cols, x, cols, &zero, y, rows), "Y");
    if (adapter.empty()) return;
    auto const X = loraga::activations<loraga::device_space>(x, tokens, cols);
    auto const Y = loraga::activations<loraga::device_space>(y, tokens, rows);
    adapter[0].forward(be, weight(), X, Y, tape);
  }

  void backward(loraga::cuda& be, cublasHandle_t blas, float* x, float* dy, float* dx) {
    auto const X = loraga::activations<loraga::device_space>(x, tokens, cols);
    auto const dY = loraga::activations<loraga::device_space>(dy, tokens, rows);
    auto const dX = loraga::activations<loraga::device_space>(dx, tokens, dx ? cols : 0);
    if (watcher) watcher->add_outer(be, dY, X);
    // The adapter's share first: what it returns is the dY that the base's own backward takes.
    loraga::const_view<float, loraga::device_space> seen = dY;
    if (!adapter.empty()) seen = adapter[0].backward(be, weight(), X, dY, tape, 0.0, dX);
    float const one = 1, old = adapter.empty() ? 0.f : 1.f;
    if (dx)
      check(cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_N, cols, tokens, rows, &one, w, cols, seen.data, rows, &old, dx,
                        cols),
            "dX");
  }
};

struct network {
  linear first, second;
  float *h, *a, *y, *da, *dy, *loss;

  static network allocate() {
    auto const n = [](int x) { return device_array(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(x)); };
    return {{hidden, in, device_array(hidden * in)},
            {out, hidden, device_array(out * hidden)},
            n(hidden),
            n(hidden),
            n(out),
            n(hidden),
            n(out),
            n(out)};
  }
  void forward(loraga::cuda& be, cublasHandle_t blas, float* x) {
    first.forward(be, blas, x, h);
    each(be.stream(), tokens * hidden, relu{h, a});
    second.forward(be, blas, a, y);
  }
  void backward(loraga::cuda& be, cublasHandle_t blas, float* x, float const* target) {
    each(be.stream(), tokens * out, squared_error{y, target, dy, loss});
    second.backward(be, blas, a, dy, da);
    each(be.stream(), tokens * hidden, relu_backward{h, da});
    first.backward(be, blas, x, da, nullptr);
  }
  double mean_loss(cudaStream_t stream) const {
    std::vector<float> all(tokens * out);
    check(cudaMemcpyAsync(all.data(), loss, all.size() * sizeof(float), cudaMemcpyDeviceToHost, stream), "loss");
    check(cudaStreamSynchronize(stream), "loss");
    double sum = 0;
    for (float const e : all) sum += static_cast<double>(e);
    return sum;
  }
  void free_arrays() {
    for (float* p : {first.w, second.w, h, a, y, da, dy, loss}) cudaFree(p);
  }
};

/// Inputs, and what the teacher says to them: the student's own weights plus a change of both.
struct data {
  float* x = device_array(tokens * in);
  float* target = device_array(tokens * out);

  void draw(loraga::cuda& be, cublasHandle_t blas, network& teacher, std::uint64_t batch) {
    loraga::fill_normal(be, loraga::activations<loraga::device_space>(x, tokens, in), {7, batch}, 1);
    teacher.forward(be, blas, x);
    check(cudaMemcpyAsync(target, teacher.y, sizeof(float) * tokens * out, cudaMemcpyDeviceToDevice, be.stream()),
          "target");
  }
};

void fill_weights(loraga::cuda& be, network& net, bool changed) {
  std::uint64_t id = 0;
  for (linear* l : {&net.first, &net.second}) {
    double const deviation = std::sqrt(2.0 / l->cols);
    loraga::fill_normal(be, l->weight(), {1, id}, deviation);
    if (changed) {
      loraga::matrix<float, loraga::cuda> change(be, l->rows, l->cols);
      loraga::fill_normal(be, change.view(), {2, id}, 0.3 * deviation);
      loraga::axpby(be, 1.0, change.view(), 1.0, l->weight());
    }
    ++id;
  }
}

// --- the part that is about adapters ---------------------------------------------------------------------------------

double fine_tune(loraga::cuda& be, cublasHandle_t blas, network& student, network& teacher, data& d, bool lora_ga) {
  linear* const layers[] = {&student.first, &student.second};

  // 1. Estimate the mean weight gradient over a few micro-batches; nothing is trained.
  std::vector<loraga::dense_gradient<loraga::cuda>> gradients;
  for (linear* l : layers) gradients.emplace_back(be, l->rows, l->cols);
  for (int i = 0; i < 2; ++i) layers[i]->watcher = &gradients[static_cast<std::size_t>(i)];
  for (std::uint64_t batch = 0; lora_ga && batch < 4; ++batch) {
    d.draw(be, blas, teacher, 1000 + batch);
    student.forward(be, blas, d.x);
    student.backward(be, blas, d.x, d.target);
  }
  for (linear* l : layers) l->watcher = nullptr;

  // 2. Adapters: LoRA-GA from the gradient (W changes so that the model starts as it was), or LoRA's own start.
  loraga::adamw<float, loraga::cuda> optimiser(be);
  for (std::size_t i = 0; i < 2; ++i) {
    linear& l = *layers[i];
    l.adapter.emplace_back(be, l.rows, l.cols, rank, loraga::rank_stable_scaling{.alpha = 16});
    if (lora_ga)
      loraga::initialise(be, l.adapter[0], loraga::lora_ga_init{.gamma = 64}, l.weight(), loraga::automatic_svd{},
                         gradients[i], loraga::in_place_anchor{});
    else loraga::initialise(be, l.adapter[0], loraga::kaiming_init{.seed = i});
    loraga::add_adapter(be, optimiser, l.adapter[0], {.learning_rate = 1e-3});
  }

  // 3. Train. (Any optimiser will do: adapter.parameters() lists values and gradients.)
  for (int step = 0; step < steps; ++step) {
    d.draw(be, blas, teacher, static_cast<std::uint64_t>(step));
    student.forward(be, blas, d.x);
    for (linear* l : layers) l->adapter[0].zero_gradient(be);
    student.backward(be, blas, d.x, d.target);
    optimiser.step(be);
    if (step % 20 == 0) std::printf("  step %3d  loss %.4f\n", step, student.mean_loss(be.stream()));
  }

  // 4. Merge: from here on the layers are plain weights again.
  for (linear* l : layers) {
    l->adapter[0].merge(be, l->weight());
    l->adapter.clear();
  }
  d.draw(be, blas, teacher, 2000);
  student.forward(be, blas, d.x);
  student.backward(be, blas, d.x, d.target);
  double const loss = student.mean_loss(be.stream());
  std::printf("  merged    loss %.4f on fresh data\n", loss);
  return loss;
}

/// Raw floats, row-major, one file per layer.
void write_weights(loraga::cuda& be, linear const& l, std::string const& path) {
  auto const values = loraga::read_all(be, l.weight().transposed());  // column-major of WT is row-major of W
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<char const*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  std::printf("%s: %d x %d floats\n", path.c_str(), l.rows, l.cols);
}

int run(std::string const& folder) {
  cudaStream_t stream = nullptr;  // the loop's own stream and handle
  cublasHandle_t blas = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check(cublasCreate(&blas), "cublas");
  check(cublasSetStream(blas, stream), "cublas");
  double losses[2];
  {
    loraga::cuda be(stream);
    network student = network::allocate(), teacher = network::allocate();
    data d;
    fill_weights(be, teacher, true);
    for (bool const lora_ga : {false, true}) {
      std::printf("%s, rank %d\n", lora_ga ? "LoRA-GA" : "LoRA", rank);
      fill_weights(be, student, false);
      losses[lora_ga] = fine_tune(be, blas, student, teacher, d, lora_ga);
    }
    write_weights(be, student.first, folder + "/first.f32");
    write_weights(be, student.second, folder + "/second.f32");
    student.free_arrays();
    teacher.free_arrays();
    cudaFree(d.x);
    cudaFree(d.target);
  }
  cublasDestroy(blas);
  cudaStreamDestroy(stream);
  return losses[1] < losses[0] ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try { return run(argc > 1 ? argv[1] : "."); } catch (std::exception const& failure) {
  std::fprintf(stderr, "cuda_loop: %s\n", failure.what());
  return 1;
}
