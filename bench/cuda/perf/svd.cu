// Truncated SVDs: our methods and cuSOLVER's randomised one, on the same matrices; and the start of whole models.
#include "run.cuh"
#include "spectrum.cuh"

namespace perf {

namespace {

template <class Method>
void one_method(backend& be, settings const& how, char const* name, Method const& method,
                std::vector<view<float const>> const& matrices, index_t rank, index_t shown) {
  loraga::view_list const list(matrices.data(), static_cast<index_t>(matrices.size()));
  index_t const k = 2 * rank;
  auto found = method.top(be, list, k);
  auto const q = judge(be, found, list, std::min<index_t>(2, found.count()));
  int flagged = 0;
  for (int const f : found.flags) flagged += f != 0;
  auto const work = [&] { (void)method.top(be, list, k); };
  auto const t = time_of(be, how, work);
  result r("factorisations",
           std::string(name) + " r=" + std::to_string(shown) + " count=" + std::to_string(matrices.size()));
  with_times(r, t).with("per_matrix", t.median / static_cast<double>(matrices.size())).with("loss", q.loss);
  r.with("orthonormal", q.orthonormal).with("flagged", flagged).with("launches", launches_of(be, work));
  r.with("memory", memory_peak_of(be, work));
}

/// The linear layers of a model: how many there are of each shape.
struct shape_group {
  char const* name;
  index_t out, in, number;
};

/// A model's layers with bf16 weights and adapters, and float gradients of a known spectrum.
class model {
  using adapter = loraga::lora<loraga::bf16, backend>;
  using gradient = loraga::dense_gradient<backend>;
  using weight = view<loraga::bf16>;
  std::vector<loraga::matrix<loraga::bf16, backend>> weights_;
  std::vector<gradient> gradients_;
  std::vector<adapter> adapters_;
  std::vector<index_t> firsts_;  // of each shape

 public:
  using layer = loraga::layer<adapter, weight, gradient>;

  model(backend& be, settings const& how, std::vector<shape_group> const& groups) {
    std::size_t total = 0;
    for (auto const& g : groups) total += static_cast<std::size_t>(how.number(g.number));
    weights_.reserve(total);
    gradients_.reserve(total);
    for (auto const& g : groups) {
      index_t const out = how.side(g.out), in = how.side(g.in);
      firsts_.push_back(static_cast<index_t>(gradients_.size()));
      auto const base = cosine_matrix(be, out, in);
      loraga::matrix<float, backend> dw(be, out, in);
      for (index_t i = 0; i < how.number(g.number); ++i) {
        auto const id = static_cast<std::uint64_t>(gradients_.size());
        weights_.emplace_back(be, in, out);  // rows of W lie together
        loraga::fill_normal(be, weights_.back().view(), {6, id}, 0.02);
        gradients_.emplace_back(be, out, in);
        with_random_signs(be, base, dw.view(), id);
        gradients_.back().add(be, dw.view());
      }
    }
  }
  std::vector<layer> layers(backend& be, index_t rank) {
    adapters_.clear();
    adapters_.reserve(gradients_.size());
    std::vector<layer> all;
    for (std::size_t i = 0; i < gradients_.size(); ++i) {
      auto const& g = gradients_[i];
      adapters_.emplace_back(be, g.rows(), g.cols(), rank, loraga::rank_stable_scaling{.alpha = 16});
      all.push_back({&adapters_.back(), weights_[i].view().transposed(), &g, "layer " + std::to_string(i)});
    }
    return all;
  }
  /// The worst of two layers of each shape.
  quality judged(backend& be, index_t rank) const {
    quality worst;
    for (index_t const first : firsts_) {
      std::vector<gradient const*> batch;
      std::vector<view<float const>> sums;
      for (index_t i = first; i < first + 2; ++i) {
        batch.push_back(&gradients_[static_cast<std::size_t>(i)]);
        sums.push_back(batch.back()->sum());
      }
      auto found = gradient::top(be, loraga::automatic_svd{}, std::span<gradient const* const>(batch), 2 * rank);
      auto const q = judge(be, found, sums, 2);
      worst = {std::max(worst.loss, q.loss), std::max(worst.orthonormal, q.orthonormal)};
    }
    return worst;
  }
};

void initialise_model(backend& be, settings const& how, char const* section, std::vector<shape_group> const& groups) {
  model m(be, how, groups);
  for (index_t const whole : {8, 32, 128}) {
    index_t const rank = how.rank(whole);
    auto const q = m.judged(be, rank);
    auto layers = m.layers(be, rank);
    auto const fresh = [&] { layers = m.layers(be, rank); };  // an adapter is anchored in place once
    auto const start = [&] {
      loraga::initialise(be, layers, loraga::lora_ga_init{}, loraga::automatic_svd{}, loraga::in_place_anchor{});
    };
    double const peak = memory_peak_of(be, start);
    fresh();
    double const launches = launches_of(be, start);
    auto const t = time_of(be, how, start, fresh);
    result r(section, "r=" + std::to_string(whole));
    with_times(r, t).with("loss", q.loss).with("orthonormal", q.orthonormal).with("launches", launches);
    r.with("memory", peak).with("layers", static_cast<double>(layers.size()));
  }
}

}  // namespace

void factorisations(backend& be, settings const& how) {
  index_t const n = how.side(4096);
  auto const base = cosine_matrix(be, n, n);
  std::vector<loraga::matrix<float, backend>> memory;
  for (index_t b = 0; b < how.number(32); ++b) {
    memory.emplace_back(be, n, n);
    with_random_signs(be, base, memory.back().view(), static_cast<std::uint64_t>(b));
  }
  std::vector<view<float const>> all;
  for (auto const& m : memory) all.push_back(m.view());
  std::vector<view<float const>> const one(all.begin(), all.begin() + 1);
  std::vector<view<float const>> const two(all.begin(), all.begin() + 2);
  for (index_t const whole : {8, 32, 128}) {
    index_t const rank = how.rank(whole);
    one_method(be, how, "automatic balanced", loraga::automatic_svd{}, all, rank, whole);
    one_method(be, how, "automatic balanced", loraga::automatic_svd{}, one, rank, whole);
    one_method(be, how, "automatic tight", loraga::automatic_svd{loraga::svd_quality::tight}, all, rank, whole);
    one_method(be, how, "cusolver gesvdr", loraga::cusolver_svd{loraga::cusolver_driver::gesvdr, 2 * rank, 2}, two,
               rank, whole);
  }
}

void initialise_7b(backend& be, settings const& how) {
  initialise_model(be, how, "initialise_7b",
                   {{"q k v o", 4096, 4096, 128}, {"gate up", 11008, 4096, 64}, {"down", 4096, 11008, 32}});
}

void initialise_8b(backend& be, settings const& how) {
  initialise_model(
      be, how, "initialise_8b",
      {{"q o", 4096, 4096, 64}, {"k v", 1024, 4096, 64}, {"gate up", 14336, 4096, 64}, {"down", 4096, 14336, 32}});
}

}  // namespace perf
