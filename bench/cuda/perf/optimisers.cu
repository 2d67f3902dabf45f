// What an optimiser's step over all adapters of a model takes: all at once, and tensor by tensor as its peer.
#include "run.cuh"

namespace perf {

namespace {

/// The adapters of Llama-2-7B's linear layers, with gradients.
template <class T>
class trained {
  using adapter = loraga::lora<T, backend>;
  std::vector<adapter> all_;

 public:
  using gradient = view<loraga::compute_t<T>>;
  loraga::adamw<T, backend> optimiser;
  std::vector<gradient> gradients;

  trained(backend& be, settings const& how, index_t rank) : optimiser(be) {
    index_t const blocks = how.number(32);
    all_.reserve(static_cast<std::size_t>(7 * blocks));
    auto const add = [&](index_t out, index_t in) {
      all_.emplace_back(be, how.side(out), how.side(in), rank, loraga::rank_stable_scaling{.alpha = 16});
      auto& ad = all_.back();
      loraga::initialise(be, ad, loraga::gaussian_init{.seed = static_cast<std::uint64_t>(all_.size())});
      for (auto const& p : ad.parameters()) loraga::fill_normal(be, p.gradient, {9, all_.size()}, 1e-3);
      loraga::add_adapter(be, optimiser, ad, {.learning_rate = 1e-4, .weight_decay = 0.01});
      gradients.push_back(ad.gradient());
    };
    for (index_t block = 0; block < blocks; ++block) {
      for (int i = 0; i < 4; ++i) add(4096, 4096);
      for (int i = 0; i < 2; ++i) add(11008, 4096);
      add(4096, 11008);
    }
  }
  std::vector<adapter>& adapters() { return all_; }
  double energy(backend& be) const {
    double sum = 0;
    for (auto const& g : gradients) sum += energy_of(be, g);
    return sum;
  }
};

template <class T>
void optimiser_case(backend& be, settings const& how, char const* type, index_t whole) {
  trained<T> model(be, how, how.rank(whole));
  using gradient = typename trained<T>::gradient;
  loraga::gradient_list<backend, loraga::compute_t<T>> list;
  for (auto const& g : model.gradients) list.add(g);
  loraga::matrix<double, backend> norm(be, 1, 1);
  double limit = 1;
  // Each call clips again: gradients that are short enough would not be written.
  auto const clip = [&] { list.clip(be, limit *= 0.999, norm.view()); };
  auto const clip_each = [&] {
    loraga::clip_gradients(be, std::span<gradient const>(model.gradients), limit *= 0.999, norm.view());
  };
  auto const step = [&] { model.optimiser.step(be); };
  auto const clipped_step = [&] { model.optimiser.step(be, 1.0, norm.view()); };
  auto const zero = [&] { model.optimiser.zero_gradients(be); };
  auto const zero_each = [&] {
    for (auto& ad : model.adapters()) ad.zero_gradient(be);
  };
  if (how.profiled) return profile(be, [&] { clip(), clipped_step(), zero(); });

  double const exact = std::sqrt(model.energy(be));
  auto const error = [&] { return std::abs(loraga::read_scalar(be, norm.view()) / exact - 1); };
  clipped_step();  // leaves the gradients as they are
  double const of_step = error();
  clip();
  double const of_list = error(), left = std::sqrt(model.energy(be));
  timed const line{be, how, "optimisers"};
  std::string const kind = std::string(type) + " r=" + std::to_string(whole) + " ";
  line(kind + "clip", clip, std::max(of_list, std::abs(left / limit - 1)));
  line(kind + "clip one by one", clip_each);
  line(kind + "step", step);
  line(kind + "clipped step", clipped_step, of_step);
  line(kind + "zero", zero);
  line(kind + "zero one by one", zero_each);
  line(
      kind + "all", [&] { clipped_step(), zero(); }, std::sqrt(model.energy(be)));  // zeroed by now
  line(kind + "all one by one", [&] { clip_each(), step(), zero_each(); });
  double parameters = 0;
  for (auto const& g : model.gradients) parameters += static_cast<double>(g.rows) * static_cast<double>(g.cols);
  result("optimisers", kind + "size")
      .with("parameters", parameters)
      .with("layers", static_cast<double>(model.gradients.size()));
}

}  // namespace

void optimisers(backend& be, settings const& how) {
  optimiser_case<float>(be, how, "float", 8);
  if (how.profiled) return;
  optimiser_case<float>(be, how, "float", 64);
  optimiser_case<loraga::bf16>(be, how, "bf16", 8);
  optimiser_case<loraga::bf16>(be, how, "bf16", 64);
}

}  // namespace perf
