#include <loraga/distributed.hpp>

#include "../support/catch.hpp"
#include "../support/ranks.hpp"

// Every fault at every phase of a job: all ranks end, with the same sentence.

using namespace loraga;
using test::backend, test::host;

namespace {

enum class job_phase { combine_sums, combine_estimates, combine_inputs, stream, start, step, count };
enum class job_fault { none, exception, other_shape, other_method, other_calls, count };

/// The job of one rank, up to `last`, where rank `guilty` goes wrong.
template <class C>
struct faulty_job {
  backend& be;
  C& comm;
  job_phase last;
  job_fault wrong;
  int guilty;

  bool here(job_phase p, job_fault f) const { return p == last && f == wrong && comm.rank() == guilty; }
  /// What precedes a phase.
  void begin(job_phase p) const {
    if (here(p, job_fault::exception)) throw std::runtime_error("out of paper");
  }
  index_t in(job_phase p) const { return here(p, job_fault::other_shape) ? 7 : 6; }
  std::uint64_t seed() const { return static_cast<std::uint64_t>(comm.rank()); }

  template <class G, class O>
  void combine_two(job_phase p, std::vector<G>& mine, O&& other) const {
    begin(p);
    if (here(p, job_fault::other_calls)) return;
    if (here(p, job_fault::other_method)) combine(be, comm, other);
    else combine(be, comm, mine);
  }
  template <class G>
  std::vector<G> fed(job_phase p, bool more = false) const {
    std::vector<G> all;
    for (index_t const out : {5, 9}) {
      auto& g = all.emplace_back(be, out, in(p), gradient_options{.rank = 2, .power_steps = more ? 2 : 0});
      g.add(be, test::upload<float>(be, test::random(out, in(p), seed() + static_cast<std::uint64_t>(out))).view());
    }
    return all;
  }
  std::vector<double> run() const {
    auto sums = fed<dense_gradient<backend>>(job_phase::combine_sums);
    combine_two(job_phase::combine_sums, sums, fed<sign_gradient<backend>>(job_phase::combine_sums));
    if (last == job_phase::combine_sums) return {};

    auto estimates = fed<incremental_gradient<backend>>(job_phase::combine_estimates);
    combine_two(job_phase::combine_estimates, estimates,
                fed<incremental_gradient<backend>>(job_phase::combine_estimates, true));
    if (last == job_phase::combine_estimates) return {};

    std::vector<input_statistics<backend>> inputs, peaks;
    inputs.emplace_back(be, in(job_phase::combine_inputs));
    peaks.emplace_back(be, 6, input_options{.by_peak = true});
    combine_two(job_phase::combine_inputs, inputs, peaks);
    if (last == job_phase::combine_inputs) return {};

    stream();
    if (last == job_phase::stream) return {};

    std::vector<lora<float, backend>> adapters;
    index_t const rank = here(job_phase::start, job_fault::other_shape) ? 1 : 2;
    for (auto const& g : sums) adapters.emplace_back(be, g.rows(), g.cols(), rank, classic_scaling{});
    start(adapters, sums);
    if (last == job_phase::start) return {};
    return step(adapters);
  }
  void stream() const {
    layer_size const sizes[] = {{5, in(job_phase::stream)}, {9, 6}};
    streamed_gradient<C, backend> all(be, comm, sizes, {.rank = 2});
    begin(job_phase::stream);
    for (index_t l : {0, 1}) {
      if (l == 1 && here(job_phase::stream, job_fault::other_shape)) continue;
      if (!here(job_phase::stream, job_fault::other_calls)) all.add_nothing(be, l);
    }
    if (here(job_phase::stream, job_fault::other_method)) agree(be, comm, "another way");
    if (!here(job_phase::stream, job_fault::other_calls)) all.flush(be);
  }
  void start(std::vector<lora<float, backend>>& adapters, std::vector<dense_gradient<backend>> const& sums) const {
    using L = layer<lora<float, backend>, no_weight, dense_gradient<backend>>;
    std::vector<L> layers;
    for (std::size_t i = 0; i < adapters.size(); ++i) layers.push_back({&adapters[i], {}, &sums[i]});
    begin(job_phase::start);
    if (here(job_phase::start, job_fault::other_calls)) return;
    if (here(job_phase::start, job_fault::other_method)) initialise(be, layers, kaiming_init{}, over_ranks(comm));
    else initialise(be, layers, lora_ga_init{}, automatic_svd{}, frozen_pair_anchor{}, over_ranks(comm));
  }
  std::vector<double> step(std::vector<lora<float, backend>>& adapters) const {
    gradient_average<backend> average;
    std::size_t const n = here(job_phase::step, job_fault::other_shape) ? 1 : adapters.size();
    for (std::size_t i = 0; i < n; ++i) {
      adapters[i].zero_gradient(be);
      average.add(adapters[i]);
    }
    begin(job_phase::step);
    if (here(job_phase::step, job_fault::other_method)) agree(be, comm, "another way");
    if (!here(job_phase::step, job_fault::other_calls)) average.run(be, comm);
    std::vector<double> values;
    for (auto& ad : adapters) {
      test::append(be, values, ad.a());
      test::append(be, values, ad.b());
    }
    return values;
  }
};

}  // namespace

TEST_CASE("each fault at each phase ends all ranks with one sentence", "[distributed]") {
  for (int const n : test::rank_counts()) {
    if (n == 1) continue;
    for (int p = 0; p < static_cast<int>(job_phase::count); ++p)
      for (int f = 0; f < static_cast<int>(job_fault::count); ++f) {
        int const guilty = (p + f) % n;
        auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
          return together(be, comm, [&] {
            return faulty_job<std::remove_reference_t<decltype(comm)>>{be, comm, static_cast<job_phase>(p),
                                                                       static_cast<job_fault>(f), guilty}
                .run();
          });
        });
        for (auto const& rank : all) {
          INFO("phase " << p << ", fault " << f << ", rank " << guilty << " of " << n << ": " << rank.error);
          CHECK(rank.error == all[0].error);
          CHECK(rank.error.empty() == (static_cast<job_fault>(f) == job_fault::none));
          CHECK(rank.values == all[0].values);
          if (static_cast<job_fault>(f) == job_fault::exception)
            CHECK(rank.error == "rank " + std::to_string(guilty) + " of " + std::to_string(n) + ": out of paper");
          if (static_cast<job_fault>(f) == job_fault::other_shape ||
              static_cast<job_fault>(f) == job_fault::other_method)
            CHECK(rank.error.find("ranks: rank ") == 0);
        }
      }
  }
}

TEST_CASE("NaN on one rank is refused on all, by layer", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      dense_gradient<backend> good(be, 5, 6), bad(be, 5, 6);
      host noise = test::random(5, 6, static_cast<std::uint64_t>(comm.rank()));
      good.add(be, test::upload<float>(be, noise).view());
      if (comm.rank() == n - 1) noise(1, 2) = std::nan("");
      bad.add(be, test::upload<float>(be, noise).view());
      std::vector const sources{&good, &bad};
      combine(be, comm, sources);
      std::vector<lora<float, backend>> adapters;
      for (int i = 0; i < 2; ++i) adapters.emplace_back(be, 5, 6, 2, classic_scaling{});
      using L = layer<lora<float, backend>, no_weight, dense_gradient<backend>>;
      std::vector const layers{L{&adapters[0], {}, &good, "good"}, L{&adapters[1], {}, &bad, "bad"}};
      std::vector<double> values;
      try {
        initialise(be, layers, lora_ga_init{}, automatic_svd{}, frozen_pair_anchor{}, over_ranks(comm));
      } catch (numeric_error const& failure) {
        values.push_back(std::string(failure.what()).find("initialise: bad is not finite") == 0);
      }
      values.push_back(adapters[0].started());
      values.push_back(adapters[1].started());
      test::append(be, values, adapters[0].b());
      return values;
    });
    for (auto const& rank : all) {
      INFO(rank.error);
      REQUIRE(rank.values.size() > 3);
      CHECK(rank.values[0] == 1);
      CHECK(rank.values[1] == 1);
      CHECK(rank.values[2] == 0);
      CHECK(rank.values == all[0].values);
    }
  }
}

TEST_CASE("all ranks without data are refused as one process is", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      std::vector<incremental_gradient<backend>> none;
      none.emplace_back(be, 5, 6, gradient_options{.rank = 2});
      combine(be, comm, none);
      lora<float, backend> ad(be, 5, 6, 2, classic_scaling{});
      initialise(be, ad, lora_ga_init{}, none[0], frozen_pair_anchor{}, over_ranks(comm));
      return std::vector<double>{};
    });
    for (auto const& rank : all) {
      CHECK(rank.error.find("gradient is an empty accumulator, expected at least one micro-batch added") !=
            std::string::npos);
      CHECK(rank.error == all[0].error);
    }
  }
}
