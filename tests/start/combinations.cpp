// README's promise: every part is exchanged by a word. What should fit together compiles and runs; what should not is
// known as such (tests/reject has the sentences).
#include "../init/checks.hpp"

#ifndef LORAGA_TEST_CUDA
#include <loraga/svd/eigen.hpp>
#endif

using namespace loraga;
using test::backend;

namespace {

template <class... T>
struct list {
  template <class F>
  static void each(F const& f) {
    (f.template operator()<T>(), ...);
  }
};

using accumulators = list<dense_gradient<backend>, sign_gradient<backend>, incremental_gradient<backend>,
                          offloaded_gradient<backend>, background_gradient<incremental_gradient<backend>, backend>>;
using svds = list<automatic_svd, block_krylov, subspace, gram
#ifndef LORAGA_TEST_CUDA
                  ,
                  eigen_svd
#endif
                  >;
using initialisers =
    list<kaiming_init, gaussian_init, orthogonal_init, embedding_init, gaussian_pair_init, pissa_init, milora_init,
         olora_init, corda_init, eva_init, lora_ga_init, lora_one_init, gora_init, lora_sb_init>;
using anchors = list<in_place_anchor, frozen_pair_anchor, no_anchor, unanchored>;
template <class T>
using adapters =
    list<lora<T, backend>, dora<T, backend>, adalora<T, backend>, lora_sb<T, backend>, any_adapter<T, backend>>;

/// Everything that a start may ask for.
struct layer_of_a_model {
  backend be = test::make_backend();
  background_worker<backend> worker{be};
  matrix<float, backend> w = test::upload<float>(be, test::random(12, 10, 1)),
                         x = test::upload<float>(be, test::random(10, 40, 2)),
                         dy = test::upload<float>(be, test::random(12, 40, 3));
  dense_gradient<backend> gradient{be, 12, 10};
  input_statistics<backend> inputs{be, 10}, peaks{be, 10, {.by_peak = true}};

  layer_of_a_model() {
    gradient.add_outer(be, dy.view(), x.view());
    inputs.add(be, x.view());
    peaks.add(be, x.view());
  }
  template <class G>
  G accumulator() {
    if constexpr (std::is_constructible_v<G, backend&, index_t, index_t>) return G(be, 12, 10);
    else if constexpr (std::is_constructible_v<G, background_worker<backend>&, backend&, index_t, index_t>)
      return G(worker, be, 12, 10);
    else return G(worker, 12, 10, gradient_options{.rank = 2});
  }
  template <class I, class A, class... Given>
  void start(I const& init, A& adapter, Given const&... given) {
    if constexpr (std::is_same_v<I, corda_init>) initialise(be, adapter, init, w.view(), gradient, peaks, given...);
    else initialise(be, adapter, init, w.view(), gradient, inputs, given...);
  }
};

template <class A>
bool alive(backend& be, A& adapter) {
  return test::largest(test::download(be, adapter.a())) > 0 || test::largest(test::download(be, adapter.b())) > 0;
}

/// What the library says should fit, told here once more in plain words.
template <class A, class I, class X>
constexpr bool should_fit() {
  constexpr bool moves = I::starts != start_kind::at_zero, in_place = std::is_same_v<X, in_place_anchor>;
  constexpr bool ablation =
      std::is_same_v<I, lora_one_init> || std::is_same_v<I, gora_init> || std::is_same_v<I, lora_sb_init>;
  if (moves && in_place && std::is_same_v<A, adalora<float, backend>>) return false;
  if (moves && !ablation && std::is_same_v<X, no_anchor>) return false;
  return !(std::is_same_v<I, lora_ga_init> && std::is_same_v<A, lora_sb<float, backend>>);
}
template <class A, class I, class X>
constexpr bool fits() {
  using W = test::view<float>;
  using S = std::conditional_t<std::is_same_v<I, corda_init> || std::is_same_v<I, eva_init>, input_statistics<backend>,
                               dense_gradient<backend>>;
  return detail::start_types<backend, layer<A, W, S>, I, automatic_svd, X>::fit;
}

}  // namespace

TEST_CASE("every accumulator goes with every SVD method", "[start]") {
  accumulators::each([]<class G> {
    svds::each([]<class Svd> {
      layer_of_a_model m;
      auto g = m.accumulator<G>();
      g.add_outer(m.be, m.dy.view(), m.x.view());
      lora<float, backend> adapter(m.be, 12, 10, 2, rank_stable_scaling{});
      initialise(m.be, adapter, lora_ga_init{}, m.w.view(), Svd{}, g, in_place_anchor{});
      CHECK(alive(m.be, adapter));
    });
  });
}

TEST_CASE("every initialiser goes with every adapter and every anchor that suits it", "[start]") {
  adapters<float>::each([]<class A> {
    initialisers::each([]<class I> {
      anchors::each([]<class X> {
        static_assert(fits<A, I, X>() == should_fit<A, I, X>());
        // runs one of each pair: (adapter, initialiser) by the anchor it is meant for, (adapter, anchor) by PiSSA
        constexpr bool meant =
            std::is_same_v<X, std::conditional_t<I::starts == start_kind::ahead, no_anchor, frozen_pair_anchor>>;
        if constexpr (fits<A, I, X>() && (meant || std::is_same_v<I, pissa_init>)) {
          if (std::is_same_v<X, in_place_anchor> && std::is_same_v<A, any_adapter<float, backend>>) return;
          layer_of_a_model m;
          A adapter = [&] {
            if constexpr (std::is_same_v<A, any_adapter<float, backend>>)
              return A(adapter_kind::dora, m.be, 12, 10, 2, rank_stable_scaling{});
            else return A(m.be, 12, 10, 2, rank_stable_scaling{});
          }();
          m.start(I{}, adapter, X{});
          CHECK(alive(m.be, adapter));
          matrix<float, backend> y(m.be, 12, 40);
          fill(m.be, y.view(), 0);
          adapter.forward(m.be, m.w.view(), m.x.view(), y.view());
          double const change = test::largest(test::download(m.be, y.view()));
          if (std::is_same_v<X, frozen_pair_anchor>)
            CHECK(change < (std::is_same_v<A, dora<float, backend>> ? 1e-4 : 1e-5));
        }
      });
    });
  });
}

TEST_CASE("a start's arguments come in any order, and what it does not need is ignored", "[start]") {
  layer_of_a_model m;
  using A = lora<float, backend>;
  A one(m.be, 12, 10, 2, rank_stable_scaling{}), two(m.be, 12, 10, 2, rank_stable_scaling{});
  gram const svd;
  frozen_pair_anchor const pair;
  initialise(m.be, one, lora_ga_init{}, m.w.view(), svd, m.gradient, pair);
  initialise(m.be, two, lora_ga_init{}, pair, m.inputs, m.gradient, svd, m.w.view());
  CHECK(test::distance(test::download(m.be, one.a()), test::download(m.be, two.a())) == 0);
  CHECK(test::distance(test::download(m.be, one.b()), test::download(m.be, two.b())) == 0);
  // swaps of README's program
  initialise(m.be, one, pissa_init{}, m.w.view(), svd, m.gradient, pair);
  initialise(m.be, one, kaiming_init{}, m.w.view(), svd, m.gradient, pair);
  CHECK(!one.paired());
  initialise(m.be, two, kaiming_init{});
  CHECK(test::distance(test::download(m.be, one.a()), test::download(m.be, two.a())) == 0);
}

TEST_CASE("any contiguous range of layers starts, and adapters alone differ by their seeds", "[start]") {
  layer_of_a_model m;
  using A = lora<float, backend>;
  std::vector<A> adapters;
  for (std::uint64_t seed : {0u, 0u, 7u})
    adapters.emplace_back(m.be, 12, 10, 2, rank_stable_scaling{}, lora_options{.seed = seed});
  std::vector layers{layer{&adapters[0], m.w.view(), &m.gradient, std::string("first")},
                     layer{&adapters[1], m.w.view(), &m.gradient, std::string("second")}};
  initialise(m.be, layers, kaiming_init{});
  auto const a = [&](std::size_t i) { return test::download(m.be, adapters[i].a()); };
  CHECK(test::distance(a(0), a(1)) > 0.1);
  initialise(m.be, std::span(layers).first(1), lora_ga_init{}, frozen_pair_anchor{});
  CHECK(adapters[0].paired());
  CHECK(!adapters[1].paired());
  std::array const both{layer{&adapters[0], m.w.view()}, layer{&adapters[1], m.w.view()}};
  initialise(m.be, both, pissa_init{}, frozen_pair_anchor{});
  CHECK(adapters[1].paired());
  CHECK_NOTHROW(check_layers(layers, lora_ga_init{}, frozen_pair_anchor{}));
  for (auto& ad : adapters) initialise(m.be, ad, kaiming_init{});
  CHECK(test::distance(a(0), a(1)) == 0);  // the same seed, the same numbers
  CHECK(test::distance(a(0), a(2)) > 0.1);
}

namespace {

/// A start of one's own that forgets B.
struct forgetful_init {
  static constexpr auto starts = start_kind::at_zero;
  template <class B, class V>
  void make(B& be, layer_facts const&, V a, V) const {
    fill(be, a, 1);
  }
};
/// A need whose flags are too few.
struct flagless_need : whole_weight {
  template <class B, class L, class Svd>
  auto measure(B& be, std::span<L const* const> layers, Svd const& svd) const {
    auto found = whole_weight::measure(be, layers, svd);
    found.flags.clear();
    return found;
  }
};
struct flagless_init {
  static constexpr auto starts = start_kind::at_zero;
  flagless_need needs(layer_facts const&) const { return {}; }
  template <class B, class W, class V>
  void make(B& be, layer_facts const&, W, V a, V b) const {
    fill(be, a, 1);
    fill(be, b, 0);
  }
};
/// An accumulator that gives fewer triplets than it is asked for.
struct meagre_gradient : dense_gradient<backend> {
  using dense_gradient<backend>::dense_gradient;
  void merge(backend& be, meagre_gradient const& other) { dense_gradient<backend>::merge(be, other); }
  template <class Svd>
  static auto top(backend& be, Svd const& svd, std::span<meagre_gradient const* const> batch, index_t) {
    return batch[0]->dense_gradient<backend>::top(be, svd, 1);
  }
};

}  // namespace

TEST_CASE("policies of one's own that leave something out are refused, not believed", "[start]") {
  layer_of_a_model m;
  lora<float, backend> ad(m.be, 12, 10, 2, rank_stable_scaling{});
  CHECK_THROWS_WITH(initialise(m.be, ad, forgetful_init{}), Catch::Contains("not finite"));
  CHECK_THROWS_WITH(initialise(m.be, ad, flagless_init{}, m.w.view()), Catch::Contains("flags of a need"));
  meagre_gradient meagre(m.be, 12, 10);
  meagre.add_outer(m.be, m.dy.view(), m.x.view());
  CHECK_THROWS_WITH(initialise(m.be, ad, lora_ga_init{}, meagre, frozen_pair_anchor{}),
                    Catch::Contains("U of the accumulator's top"));
  CHECK(!ad.started());
  // two adapters over one A
  matrix<float, backend> a(m.be, 2, 10), da(m.be, 2, 10), b(m.be, 12, 4), db(m.be, 12, 4);
  using borrowed = borrowed_factors<float, test::space>;
  fill(m.be, a.view(), 0), fill(m.be, b.view(), 0);
  lora<float, backend> one(m.be, borrowed{a.view(), b.view().columns(0, 2), da.view(), db.view().columns(0, 2)},
                           classic_scaling{}),
      two(m.be, borrowed{a.view(), b.view().columns(2, 2), da.view(), db.view().columns(2, 2)}, classic_scaling{});
  std::vector const both{layer{&one}, layer{&two}};
  CHECK_THROWS_AS(initialise(m.be, both, kaiming_init{}), alias_error);
}
