// loraga_plan's formulas against what the library does: messages and bytes of real communicators, operations of a
// counting backend, memory that is held.
#include <loraga/distributed.hpp>
#include <loraga/distributed/tensor_parallel.hpp>
#include <loraga/init/lora_ga.hpp>
#include <loraga/loraga.hpp>

#include "../../examples/tools/plan_formulas.hpp"
#include "../support/catch.hpp"
#include "../support/ranks.hpp"

namespace plan_tests {

using namespace loraga;
namespace plan = tools::plan;

namespace {

std::vector<plan::linear_layer> const layers{{"a", 96, 64}, {"b", 40, 120}, {"c", 33, 17}, {"d", 200, 18},
                                             {"e", 64, 64}, {"f", 17, 90},  {"g", 64, 96}};

plan::settings const small_settings{.rank = 4, .tokens = 24, .batches = 8, .bucket_bytes = 8000};

std::vector<layer_size> sizes_of_plan() {
  std::vector<layer_size> all;
  for (auto const& l : layers) all.push_back({l.out, l.in});
  return all;
}

using counted = counted_communicator<test::communicator>;

/// What a rank's communicator counted, as numbers.
std::vector<double> counts(counted const& c) {
  return {static_cast<double>(c.count.messages), static_cast<double>(c.count.meetings), c.count.sent};
}
std::vector<double> counts(plan::messages const& m) { return {m.count(), m.meetings, m.sent}; }

/// Feeds every layer one micro-batch after another, through add(layer, dY, X).
template <class F>
void feed(test::backend& be, int first, int every, F const& add) {
  for (int b = first; b < small_settings.batches; b += every)
    for (std::size_t i = 0; i < layers.size(); ++i) {
      auto const seed = 100 * i + static_cast<std::uint64_t>(b);
      auto const dy = test::upload<float>(be, test::random(layers[i].out, small_settings.tokens, seed));
      auto const x = test::upload<float>(be, test::random(layers[i].in, small_settings.tokens, seed + 50));
      add(static_cast<index_t>(i), dy.view(), x.view());
    }
}

/// What body(backend, counted communicator) sent on every rank, against `expected(rank)`.
template <class F, class E>
void check_traffic(int ranks, F const& body, E const& expected) {
  auto const all = test::on_ranks(ranks, [&](test::backend& be, test::communicator& comm) {
    counted c(comm);
    body(be, c);
    return counts(c);
  });
  for (int r = 0; r < ranks; ++r) {
    INFO("rank " << r << " of " << ranks << ": " << all[static_cast<std::size_t>(r)].error);
    auto const& found = all[static_cast<std::size_t>(r)].values;
    auto const wanted = counts(expected(r));
    REQUIRE(found.size() == 3);
    CHECK(found[0] == wanted[0]);
    CHECK(found[1] == wanted[1]);
    CHECK(found[2] == Approx(wanted[2]).epsilon(1e-12));
  }
}

plan::settings with_bucket(index_t bytes) {
  auto s = small_settings;
  s.bucket_bytes = bytes;
  return s;
}

/// An adapter of which only the size is known, and what it starts with.
struct sides {
  using value_type = float;
  index_t o, i;
  index_t out() const { return o; }
  index_t in() const { return i; }
  index_t rank() const { return 2; }
  double scale() const { return 1; }
};
struct nothing_made {
  int flags = svd_zero;  // so that nothing is sent
  matrix<float, test::backend> a, b;
};

/// A backend that counts the operations of products.
class counting_cpu : public cpu {
 public:
  using cpu::cpu;
  double products = 0, grams = 0;

  template <ViewIn<space> A, ViewIn<space> Bv, MutableViewIn<space> C>
  void gemm(double alpha, A a, Bv b, double beta, C c) {
    products += 2.0 * static_cast<double>(c.rows) * static_cast<double>(c.cols) * static_cast<double>(a.cols);
    cpu::gemm(alpha, a, b, beta, c);
  }
  template <BatchIn<space> A, BatchIn<space> Bb, BatchIn<space> C>
  void gemm_batched(double alpha, A const& a, Bb const& b, double beta, C const& c) {
    for (index_t i = 0; i < c.count; ++i) gemm(alpha, a[i], b[i], beta, c[i]);
  }
  template <BatchIn<space> Y>
  void gram_batched(Y const& y, slab_view<double, space> s) {
    for (index_t i = 0; i < s.count; ++i)
      grams += 2.0 * static_cast<double>(y[i].rows) * static_cast<double>(y[i].cols) * static_cast<double>(y[i].cols);
    cpu::gram_batched(y, s);
  }
  template <class F>
  void for_each_chunk(index_t count, F const& task) {
    for (index_t i = 0; i < count; ++i) task(*this, i, index_t{1});
  }
  std::unique_ptr<counting_cpu> fork() const { return std::make_unique<counting_cpu>(1); }
  /// Counts from here on.
  void begin() { products = grams = 0; }
};

matrix<float, counting_cpu> upload(counting_cpu& be, test::host const& from) {
  matrix<float, counting_cpu> to(be, from.rows, from.cols);
  for (index_t j = 0; j < from.cols; ++j)
    for (index_t i = 0; i < from.rows; ++i) to.view()(i, j) = static_cast<float>(from(i, j));
  return to;
}

/// An incremental update, which orthonormalises out x columns twice more where they are nearly dependent.
void check_update(counting_cpu const& be, plan::work expected, index_t out, index_t columns) {
  if (be.grams > 1.0001 * expected.grams)
    for (int i = 0; i < 2; ++i) expected.orthonormal_pass(out, columns);
  CHECK(be.products == Approx(expected.products).epsilon(1e-12));
  CHECK(be.grams == Approx(expected.grams).epsilon(1e-12));
}
void check_work(counting_cpu const& be, plan::work const& expected) {
  CHECK(be.products == Approx(expected.products).epsilon(1e-12));
  CHECK(be.grams == Approx(expected.grams).epsilon(1e-12));
  CHECK(expected.products > 0);
}

}  // namespace

TEST_CASE("loraga_plan: operations are those that a backend counts", "[examples]") {
  counting_cpu be(1);
  plan::machine const m;
  plan::accumulator const all[] = {plan::accumulator::dense, plan::accumulator::incremental};
  for (plan::linear_layer const& l : {plan::linear_layer{"a", 96, 64}, {"b", 40, 120}, {"d", 200, 18}, {"g", 130, 700}})
    for (int const power_steps : {0, 2}) {
      INFO(l.name << ", power steps " << power_steps);
      auto s = small_settings;
      s.power_steps = power_steps;
      s.tokens = 50;
      auto const dy = upload(be, test::random(l.out, s.tokens, 1)), x = upload(be, test::random(l.in, s.tokens, 2));
      auto const dy2 = upload(be, test::random(l.out, s.tokens, 3)), x2 = upload(be, test::random(l.in, s.tokens, 4));
      dense_gradient<counting_cpu> dense(be, l.out, l.in);
      gradient_options const options{.rank = s.rank, .power_steps = power_steps};
      incremental_gradient<counting_cpu> one(be, l.out, l.in, options), other(be, l.out, l.in, options);
      auto const counted = [&](auto const& work, plan::work const& expected) {
        be.begin();
        work();
        check_work(be, expected);
      };
      counted([&] { dense.add_outer(be, dy.view(), x.view()); }, plan::formulas::added(m, l, s, all[0], false));
      auto const updated = [&](auto const& work, plan::work const& expected) {
        be.begin();
        work();
        check_update(be, expected, l.out, plan::columns_of(l, s));
      };
      updated([&] { one.add_outer(be, dy.view(), x.view()); }, plan::formulas::added(m, l, s, all[1], false));
      updated([&] { one.add_outer(be, dy2.view(), x.view()); }, plan::formulas::added(m, l, s, all[1], true));
      other.add_outer(be, dy2.view(), x2.view());
      updated([&] { one.merge(be, other); }, plan::merge(m, l, s));
      projected_gradient<counting_cpu> second(be, one);
      counted([&] { second.add_outer(be, dy.view(), x.view()); }, plan::formulas::projected(m, l, s));
      input_statistics<counting_cpu> statistics(be, l.in);
      counted([&] { statistics.add(be, x.view()); },
              plan::formulas::added(m, l, s, plan::accumulator::statistics, false));

      index_t const k = 2 * s.rank;
      counted([&] { dense.top(be, automatic_svd{}, k); }, plan::formulas::started(m, l, s, plan::accumulator::dense));
      counted([&] { second.top(be, automatic_svd{}, k); },
              plan::formulas::started(m, l, s, plan::accumulator::projected));
      counted([&] { statistics.top(be, automatic_svd{}, s.rank); },
              plan::formulas::started(m, l, s, plan::accumulator::statistics));
      be.begin();
      one.top(be, automatic_svd{}, k);
      CHECK(be.products == 0);
      CHECK(plan::formulas::started(m, l, s, plan::accumulator::incremental).flop() == 0);

      lora<float, counting_cpu> adapter(be, l.out, l.in, s.rank, rank_stable_scaling());
      layer<decltype(adapter), no_weight, dense_gradient<counting_cpu>> const started{&adapter, {}, &dense, l.name};
      initialise(be, std::span(&started, 1), lora_ga_init{}, automatic_svd{}, frozen_pair_anchor{});
      matrix<float, counting_cpu> y(be, l.out, s.tokens), dx(be, l.in, s.tokens);
      fill(be, y.view(), 0);
      decltype(adapter)::tape tape;
      counted(
          [&] {
            adapter.forward(be, y.view(), x.view(), y.view(), tape);
            (void)adapter.backward(be, y.view(), x.view(), dy.view(), tape, 0.0, dx.view());
          },
          plan::formulas::trained(m, l, s, s.tokens));
    }
}

TEST_CASE("loraga_plan: dense gradients and statistics travel as predicted, to the byte", "[examples]") {
  for (int const ranks : {1, 2, 4})
    for (index_t const bytes : {index_t{3000}, index_t{5000}, index_t{30000}, index_t{32} << 20}) {
      auto const s = with_bucket(bytes);
      check_traffic(
          ranks,
          [&](auto& be, auto& c) {
            std::vector<dense_gradient<test::backend>> all;
            for (auto const& l : layers) all.emplace_back(be, l.out, l.in);
            combine(be, c, all, bucket_options{bytes});
          },
          [&](int) { return plan::combine_sums(layers, s, ranks, plan::accumulator::dense); });
      check_traffic(  // matrices that cannot go as they are, as a GPU's offloaded gradients
          ranks,
          [&](auto& be, auto& c) {
            std::vector<matrix<float, test::backend>> all;
            std::vector<matrix_view<float, test::backend::space>> views;
            for (auto const& l : layers) {
              all.emplace_back(be, l.out + 1, l.in);
              fill(be, all.back().view(), 1);
              views.push_back(all.back().view().row_range(0, l.out));
            }
            agree(be, c, "a meeting");
            all_reduce_views(be, c, std::span<matrix_view<float, test::backend::space> const>(views),
                             bucket_options{bytes});
          },
          [&](int) { return plan::combine_sums(layers, s, ranks, plan::accumulator::offloaded); });
      check_traffic(
          ranks,
          [&](auto& be, auto& c) {
            std::vector<input_statistics<test::backend>> all;
            for (auto const& l : layers) all.emplace_back(be, l.in);
            combine(be, c, all, bucket_options{bytes});
          },
          [&](int) { return plan::combine_statistics(layers, s, ranks); });
    }
}

TEST_CASE("loraga_plan: estimates merge and travel as predicted, whoever has seen something", "[examples]") {
  for (int const ranks : {1, 2, 3, 4, 7})
    for (int const busy : {1, 2, ranks}) {
      if (busy > ranks) continue;
      for (index_t const bytes : {index_t{9000}, index_t{32} << 20}) {
        auto const s = with_bucket(bytes);
        plan::machine const m;
        auto const expected = plan::merge_rounds(layers, s, ranks, busy, [&](auto const& l) { return merge(m, l, s); });
        check_traffic(
            ranks,
            [&](auto& be, auto& c) {
              model_gradient<test::backend> all(be, sizes_of_plan(), {.rank = s.rank});
              if (c.rank() < busy)
                feed(be, c.rank(), busy, [&](index_t i, auto dy, auto x) { all[i].add_outer(be, dy, x); });
              combine(be, c, all, bucket_options{bytes});
            },
            [&](int r) { return expected.by_rank[static_cast<std::size_t>(r)]; });
      }
    }
}

TEST_CASE("loraga_plan: a second pass and the streamed form travel as predicted", "[examples]") {
  for (int const ranks : {1, 2, 4})
    for (index_t const bytes : {index_t{20000}, index_t{90000}, index_t{32} << 20})
      for (int const power_steps : {0, 2}) {
        auto s = with_bucket(bytes);
        s.power_steps = power_steps;
        index_t const rounds = s.batches / ranks;
        check_traffic(
            ranks,
            [&](auto& be, auto& c) {
              auto const all_sizes = sizes_of_plan();
              gradient_options const options{.rank = s.rank, .power_steps = power_steps};
              streamed_gradient<counted, test::backend> all(be, c, all_sizes, options, {bytes});
              feed(be, c.rank(), ranks, [&](index_t i, auto dy, auto x) {
                all.add_outer(be, i, dy, x);
                if (i + 1 == static_cast<index_t>(layers.size())) all.flush(be);
              });
            },
            [&](int) {
              auto sum = plan::streamed_batch(layers, s, ranks, false);
              return sum.add(plan::streamed_batch(layers, s, ranks, true), static_cast<double>(rounds - 1));
            });
      }
  auto const s = with_bucket(5000);
  check_traffic(
      2,
      [&](auto& be, auto& c) {
        model_gradient<test::backend> first(be, sizes_of_plan(), {.rank = s.rank});
        std::vector<projected_gradient<test::backend>> second;
        feed(be, 0, 1, [&](index_t i, auto dy, auto x) { first[i].add_outer(be, dy, x); });
        for (index_t i = 0; i < first.size(); ++i) second.emplace_back(be, first[i]);
        feed(be, c.rank(), 2,
             [&](index_t i, auto dy, auto x) { second[static_cast<std::size_t>(i)].add_outer(be, dy, x); });
        combine(be, c, second, bucket_options{5000});
      },
      [&](int) { return plan::combine_sums(layers, s, 2, plan::accumulator::projected); });
}

TEST_CASE("loraga_plan: a shared start and an averaged gradient travel as predicted", "[examples]") {
  for (int const ranks : {1, 2, 4})
    for (index_t const bytes : {index_t{2000}, index_t{32} << 20}) {
      auto const s = with_bucket(bytes);
      auto const owner = plan::deal(layers, ranks);
      check_traffic(
          ranks,
          [&](auto& be, auto& c) {
            std::vector<lora<float, test::backend>> adapters;
            std::vector<dense_gradient<test::backend>> gradients;
            for (auto const& l : layers) {
              adapters.emplace_back(be, l.out, l.in, s.rank, rank_stable_scaling(16.0));
              gradients.emplace_back(be, l.out, l.in);
            }
            feed(be, 0, 4,
                 [&](index_t i, auto dy, auto x) { gradients[static_cast<std::size_t>(i)].add_outer(be, dy, x); });
            std::vector<layer<lora<float, test::backend>, no_weight, dense_gradient<test::backend>>> started;
            for (std::size_t i = 0; i < layers.size(); ++i)
              started.push_back({&adapters[i], {}, &gradients[i], layers[i].name});
            over_ranks const over(c, bucket_options{bytes});
            initialise(be, started, lora_ga_init{}, automatic_svd{}, frozen_pair_anchor{}, over);
            gradient_average<test::backend> average;
            for (auto& ad : adapters) average.add(ad);
            average.run(be, c);
          },
          [&](int) {
            auto sum = plan::shared_start(layers, s, ranks, owner);
            return sum += plan::averaged(layers, s, ranks);
          });
    }
}

TEST_CASE("loraga_plan: tensor parallel ranks send what is predicted", "[examples]") {
  for (int const ranks : {1, 2, 3, 4})
    for (auto const a : {plan::accumulator::dense, plan::accumulator::incremental}) {
      auto cut = layers;
      for (std::size_t i = 0; i < cut.size(); i += 2) cut[i].by_columns = true;
      auto const s = small_settings;
      auto const start_of = [&]<class G>(G const*, auto& be, auto& c) {
        std::vector<lora<float, test::backend>> adapters;
        std::vector<G> gradients;
        std::vector<shard> parts;
        for (auto const& l : cut) {
          parts.push_back(
              even_shard(l.by_columns ? shard_side::columns : shard_side::rows, l.out, l.in, c.rank(), ranks));
          auto const& part = parts.back();
          adapters.emplace_back(be, part.out(), part.in(), s.rank, of_whole{rank_stable_scaling(), part});
          gradients.emplace_back(be, part.out(), part.in(), gradient_options{.rank = s.rank});
        }
        for (std::size_t i = 0; i < cut.size(); ++i) {
          auto const dy = test::upload<float>(be, test::random(cut[i].out, s.tokens, i));
          auto const x = test::upload<float>(be, test::random(cut[i].in, s.tokens, i + 50));
          auto const& p = parts[i];
          gradients[i].add_outer(be, p.by_rows() ? dy.view().row_range(p.first, p.count) : dy.view(),
                                 p.by_rows() ? x.view() : x.view().row_range(p.first, p.count));
        }
        std::vector<sharded_layer<lora<float, test::backend>, no_weight, G>> list;
        for (std::size_t i = 0; i < cut.size(); ++i)
          list.push_back({&adapters[i], parts[i], {}, &gradients[i], cut[i].name});
        initialise_sharded(be, c, list, lora_ga_init{}, automatic_svd{}, frozen_pair_anchor{});
        sum_replicated(be, c, list, bucket_options{s.bucket_bytes});
      };
      check_traffic(
          ranks,
          [&](auto& be, auto& c) {
            if (a == plan::accumulator::dense) start_of(static_cast<dense_gradient<test::backend>*>(nullptr), be, c);
            else start_of(static_cast<incremental_gradient<test::backend>*>(nullptr), be, c);
          },
          [&](int r) {
            auto sum = plan::sharded_start(cut, s, ranks, r, a);
            return sum += plan::summed_replicated(cut, s, ranks);
          });
    }
}

TEST_CASE("loraga_plan: memory is what accumulators and adapters hold", "[examples]") {
  cpu be(1);
  auto const s = small_settings;
  double estimates = 0, sums = 0, statistics = 0, adapters = 0;
  for (auto const& l : layers) {
    estimates += plan::formulas::kept(l, s, plan::accumulator::incremental);
    sums += plan::formulas::kept(l, s, plan::accumulator::dense);
    statistics += plan::formulas::kept(l, s, plan::accumulator::statistics);
    adapters += 4 * plan::adapter_numbers(l, s);
  }
  CHECK(estimates == static_cast<double>(model_gradient<cpu>::bytes(sizes_of_plan(), {.rank = s.rank})));
  double held_sums = 0, held_statistics = 0, held_adapters = 0, held_second = 0, second = 0;
  auto const bytes = [](auto v) { return static_cast<double>(v.rows * v.cols) * sizeof(*v.data); };
  for (auto const& l : layers) {
    dense_gradient<cpu> const g(be, l.out, l.in);
    input_statistics<cpu> const x(be, l.in);
    held_sums += bytes(g.sum());
    held_statistics += bytes(x.scatter()) + bytes(x.mean());
    lora<float, cpu> ad(be, l.out, l.in, s.rank, rank_stable_scaling());
    for (auto const& p : ad.parameters()) held_adapters += bytes(p.value);
    incremental_gradient<cpu> first(be, l.out, l.in, {.rank = s.rank});
    first.add(be, test::upload<float>(be, test::random(l.out, l.in, 3)).view());
    projected_gradient<cpu> again(be, first);
    detail::held_state<matrix_view<float, host_space>> const both(first), state(again);
    for (auto const* name : {"u", "s", "v"}) held_second += bytes(both.matrix(name));
    for (auto const* name : {"directions", "sum"}) held_second += bytes(state.matrix(name));
    second += plan::formulas::kept(l, s, plan::accumulator::projected);
  }
  CHECK(sums == held_sums);
  CHECK(statistics == held_statistics);
  CHECK(adapters == held_adapters);
  CHECK(second == held_second);
  // scratch: the most that a backend took at a time; the rest are small matrices, and a Gram matrix's own pieces
  for (plan::linear_layer const& l : {plan::linear_layer{"wide", 600, 4000}, {"tall", 4000, 600}}) {
    cpu fresh(1);
    auto const dy = test::upload<float>(fresh, test::random(l.out, 100, 1)),
               x = test::upload<float>(fresh, test::random(l.in, 100, 2));
    incremental_gradient<cpu> one(fresh, l.out, l.in, {.rank = 8});
    fresh.trim();
    one.add_outer(fresh, dy.view(), x.view());
    double const taken = static_cast<double>(fresh.memory().held()) / 1.25;
    plan::settings wide;
    wide.tokens = 100;
    CHECK(taken == Approx(plan::formulas::update_scratch(l, wide, 100)).epsilon(0.3));
    dense_gradient<cpu> sum(fresh, l.out, l.in);
    sum.add_outer(fresh, dy.view(), x.view());
    fresh.trim();
    sum.top(fresh, automatic_svd{}, 16);
    CHECK(static_cast<double>(fresh.memory().held()) / 1.25 ==
          Approx(plan::formulas::start_scratch(l, wide, plan::accumulator::dense)).epsilon(0.3));
  }
}

TEST_CASE("loraga_plan: layers are dealt out as over_ranks does", "[examples]") {
  std::vector<sides> shapes;
  for (auto const& l : layers) shapes.push_back({l.out, l.in});
  for (int const ranks : {1, 2, 3, 5, 9}) {
    auto const owner = plan::deal(layers, ranks);
    auto const all = test::on_ranks(ranks, [&](test::backend& be, test::communicator& comm) {
      std::vector<layer<sides>> list;
      for (auto& s : shapes) list.push_back({&s});
      std::vector<nothing_made> to(list.size());
      std::vector<double> mine;
      over_ranks(comm).share(be, std::span<layer<sides> const>(list), 0, 0, to,
                             [&](std::span<std::size_t const> which) { mine.assign(which.begin(), which.end()); });
      return mine;
    });
    for (int r = 0; r < ranks; ++r) {
      std::vector<double> expected;
      for (std::size_t i = 0; i < owner.size(); ++i)
        if (owner[i] == r) expected.push_back(static_cast<double>(i));
      INFO(all[static_cast<std::size_t>(r)].error);
      CHECK(all[static_cast<std::size_t>(r)].values == expected);
    }
  }
}

}  // namespace plan_tests
