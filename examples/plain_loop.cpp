// A plain C++ training loop of the kind people write after llm.c (float pointers, std::vector, a forward and a backward
// of its own) that takes LoRA-GA in: estimate the gradient, start, train, merge, write the adapter for PEFT. Look for
// loraga::. On Debian or Ubuntu, with g++, libeigen3-dev and nlohmann-json3-dev, in loraga's folder:
//
// g++ -std=c++20 -O3 -march=native -Iinclude -isystem /usr/include/eigen3 examples/plain_loop.cpp -o plain -pthread
// ./plain my-adapter
//
// The task: a two-layer network was trained elsewhere, and shall now follow a teacher that differs in both weights.
// Arrays lie as in llm.c and PyTorch: weights out x in by rows, activations tokens x features by rows.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <loraga/cpu.hpp>
#include <loraga/io/peft.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr int in = 64, hidden = 128, out = 32, tokens = 256, rank = 4, steps = 100, shown_every = 20;
using floats = std::vector<float>;

void matmul_forward(float* y, float const* x, float const* w, int n_in, int n_out) {
  for (int t = 0; t < tokens; ++t)
    for (int o = 0; o < n_out; ++o) {
      float sum = 0;
      for (int i = 0; i < n_in; ++i) sum += w[o * n_in + i] * x[t * n_in + i];
      y[t * n_out + o] = sum;
    }
}
/// Adds to dx, as everything in a backward does. Weights are frozen: there is no dw.
void matmul_backward(float* dx, float const* dy, float const* w, int n_in, int n_out) {
  for (int t = 0; t < tokens; ++t)
    for (int o = 0; o < n_out; ++o)
      for (int i = 0; i < n_in; ++i) dx[t * n_in + i] += w[o * n_in + i] * dy[t * n_out + o];
}

// --- a linear layer, and where an adapter comes in -------------------------------------------------------------------

struct linear {
  char const* name;  // of the module, in the adapter's files
  int n_in, n_out;
  floats w = floats(static_cast<std::size_t>(n_in * n_out));
  std::optional<loraga::lora<float, loraga::cpu>> adapter = {};
  loraga::lora<float, loraga::cpu>::tape tape = {};
  loraga::dense_gradient<loraga::cpu>* watcher = nullptr;

  auto weight() { return loraga::row_major(w.data(), n_out, n_in); }

  void forward(loraga::cpu& be, float* x, float* y) {
    matmul_forward(y, x, w.data(), n_in, n_out);
    if (!adapter) return;
    auto const X = loraga::activations(x, tokens, n_in), Y = loraga::activations(y, tokens, n_out);
    adapter->forward(be, weight(), X, Y, tape);  // adds to Y
  }
  /// Adds to dx; a null one is skipped.
  void backward(loraga::cpu& be, float* x, float* dy, float* dx) {
    auto const X = loraga::activations(x, tokens, n_in), dY = loraga::activations(dy, tokens, n_out);
    auto const dX = loraga::activations(dx, tokens, dx ? n_in : 0);
    if (watcher) watcher->add_outer(be, dY, X);
    float const* seen = dy;  // an adapter may want the base to see another dY: DoRA does
    if (adapter) seen = adapter->backward(be, weight(), X, dY, tape, 1.0, dX).data;
    if (dx) matmul_backward(dx, seen, w.data(), n_in, n_out);
  }
};

struct network {
  std::array<linear, 2> layers{{{"first", in, hidden}, {"second", hidden, out}}};
  floats h = floats(tokens * hidden), dh = h, y = floats(tokens * out), dy = y;

  void forward(loraga::cpu& be, floats& x) {
    layers[0].forward(be, x.data(), h.data());
    for (float& value : h) value = std::max(value, 0.f);
    layers[1].forward(be, h.data(), y.data());
  }
  /// Returns the mean over tokens of half the squared error.
  double backward(loraga::cpu& be, floats& x, floats const& target) {
    double loss = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      dy[i] = (y[i] - target[i]) / tokens;
      loss += static_cast<double>(dy[i]) * static_cast<double>(y[i] - target[i]) / 2;
    }
    std::fill(dh.begin(), dh.end(), 0.f);
    layers[1].backward(be, h.data(), dy.data(), dh.data());
    for (std::size_t i = 0; i < h.size(); ++i) dh[i] = h[i] > 0 ? dh[i] : 0.f;
    layers[0].backward(be, x.data(), dh.data(), nullptr);
    return loss;
  }
};

void add_normal(floats& to, unsigned seed, double deviation) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> draw(0, deviation);
  for (float& value : to) value += static_cast<float>(draw(engine));
}
/// The weights there were, or the teacher's.
void fill_weights(network& net, bool changed) {
  for (linear& l : net.layers) {
    std::fill(l.w.begin(), l.w.end(), 0.f);
    add_normal(l.w, 1, std::sqrt(2.0 / l.n_in));
    if (changed) add_normal(l.w, 2, 0.3 * std::sqrt(2.0 / l.n_in));
  }
}
/// Forward and backward of a batch: inputs, and what the teacher says to them.
double loss_of(loraga::cpu& be, network& student, network& teacher, unsigned batch) {
  floats x(tokens * in);
  add_normal(x, 1000 + batch, 1);
  teacher.forward(be, x);
  student.forward(be, x);
  return student.backward(be, x, teacher.y);
}

// --- the part that is about adapters ---------------------------------------------------------------------------------

/// Losses on the way, and last the merged model's on fresh data. The adapters become `records`.
std::vector<double> fine_tune(loraga::cpu& be, network& student, network& teacher, bool lora_ga,
                              std::vector<loraga::adapter_record>& records) {
  // 1. Estimate the mean weight gradient over a few micro-batches; nothing is trained. (incremental_gradient, a word
  // instead of this one, never forms it: for layers of thousands.)
  std::vector<loraga::dense_gradient<loraga::cpu>> gradients;
  for (linear& l : student.layers) gradients.emplace_back(be, l.n_out, l.n_in);
  for (std::size_t i = 0; i < 2; ++i) student.layers[i].watcher = &gradients[i];
  for (unsigned batch = 0; lora_ga && batch < 4; ++batch) loss_of(be, student, teacher, 500 + batch);

  // 2. Adapters: LoRA-GA from the gradient (W changes so that the model starts as it was), or LoRA's own start.
  loraga::adamw<float, loraga::cpu> optimiser(be);
  for (std::size_t i = 0; i < 2; ++i) {
    linear& l = student.layers[i];
    l.watcher = nullptr;
    l.adapter.emplace(be, l.n_out, l.n_in, rank, loraga::rank_stable_scaling{.alpha = 16});
    if (lora_ga)
      loraga::initialise(be, *l.adapter, loraga::lora_ga_init{.gamma = 64}, l.weight(), gradients[i],
                         loraga::in_place_anchor{});
    else loraga::initialise(be, *l.adapter, loraga::kaiming_init{.seed = i});
    loraga::add_adapter(be, optimiser, *l.adapter, {.learning_rate = 1e-3});
  }

  // 3. Train. (Any optimiser will do: adapter.parameters() lists values and gradients.)
  std::vector<double> losses;
  for (unsigned step = 0; step < steps; ++step) {
    for (linear& l : student.layers) l.adapter->zero_gradient(be);
    double const loss = loss_of(be, student, teacher, step);
    optimiser.step(be);
    if (step % shown_every == 0) losses.push_back(loss);
  }

  // 4. Keep the adapters for files, and merge: from here on the layers are plain weights again.
  records.clear();
  for (linear& l : student.layers) {
    records.push_back(loraga::take_record(be, *l.adapter, l.name));
    l.adapter->merge(be, l.weight());
    l.adapter.reset();
  }
  losses.push_back(loss_of(be, student, teacher, 2000));
  return losses;
}

int run(std::string const& folder) {
  loraga::cpu be;
  network student, teacher;
  fill_weights(teacher, true);
  std::vector<loraga::adapter_record> records;
  std::array<std::vector<double>, 2> losses;
  for (bool const lora_ga : {false, true}) {
    fill_weights(student, false);
    losses[lora_ga] = fine_tune(be, student, teacher, lora_ga, records);
  }
  auto const& [lora, ga] = losses;
  std::printf("Losses, both at one learning rate\n  step     LoRA  LoRA-GA\n");
  for (std::size_t i = 0; i + 1 < lora.size(); ++i) std::printf("%6zu %8.4f %8.4f\n", i * shown_every, lora[i], ga[i]);
  std::printf("merged %8.4f %8.4f  on fresh data\n", lora.back(), ga.back());

  // 5. Write LoRA-GA's adapters for PEFT. Read again and added to the weights there were, they are the same model.
  save_peft(folder, records, {.base = loraga::peft_base::original, .may_replace = loraga::overwrite::yes},
            loraga::unchecked_names{});
  fill_weights(student, false);
  for (auto const& r : loraga::load_peft(folder).records)
    for (linear& l : student.layers)
      if (l.name == r.module) be.gemm(r.scale, r.b.view(), r.a.view(), 1.0, l.weight());
  double const again = loss_of(be, student, teacher, 2000);
  std::printf("folder          %8.4f  an adapter of rank %d in %s\n", again, 2 * rank, folder.c_str());
  return std::abs(again - ga.back()) <= 1e-4 * ga.back() && ga.back() < lora.back() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try { return run(argc > 1 ? argv[1] : "my-adapter"); } catch (std::exception const& e) {
  std::fprintf(stderr, "plain_loop: %s\n", e.what());
  return 1;
}
