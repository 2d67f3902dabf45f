#include <loraga/adapter/embedding.hpp>
#include <loraga/gradient/incremental.hpp>
#include <loraga/init/embedding.hpp>

#include "../init/checks.hpp"
#include "../support/gradient_check.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;
using test::upload;

namespace {

index_t const dim = 9, vocabulary = 14, rank = 2;
std::vector<std::int32_t> const tokens{3, 13, 3, 0, 7, 3, 0, 5, 13, 12};  // some twice and more

/// vocabulary x tokens
host one_hot(std::vector<std::int32_t> const& ids) {
  return test::generate(vocabulary, static_cast<index_t>(ids.size()),
                        [&](index_t i, index_t t) { return ids[static_cast<std::size_t>(t)] == i; });
}
template <class T>
embedding<T, test::backend> moved(test::backend& be, embedding_options o = {}) {
  embedding<T, test::backend> e(be, dim, vocabulary, rank, rank_stable_scaling{4}, o);
  test::upload_to<T>(be, test::random(rank, vocabulary, 1, 0.3), e.adapter().a());
  test::upload_to<T>(be, test::random(dim, rank, 2, 0.3), e.adapter().b());
  e.adapter().values_changed(be);
  return e;
}

/// An embedding as a matrix adapter, for the gradient check: X does not matter.
struct flat {
  embedding<double, test::backend>& e;
  test::view<std::int32_t const> ids;
  struct tape {};
  auto parameters() { return e.adapter().parameters(); }
  void zero_gradient(test::backend& be) { e.adapter().zero_gradient(be); }
  template <class V>
  void forward(test::backend& be, V, V, V y, tape&) {
    e.forward(be, ids, y);
  }
  template <class V>
  V backward(test::backend& be, V, V, V dy, tape&, double beta, V dx) {
    e.backward(be, ids, dy);
    axpby(be, 0, dx, beta, dx);
    return dy;
  }
};

/// Loads nothing but "anchored in place".
struct pretended_checkpoint {
  bool stores() const { return true; }
  template <class... V>
  void same(V const&...) {}
  template <class... V>
  void optional(V const&...) {}
  template <class V>
  void operator()(char const*, V&& value) {
    if constexpr (std::is_same_v<V, bool&>) value = true;
  }
};

}  // namespace

TEST_CASE("an embedding's passes agree with one-hot products", "[adapter]") {
  auto be = test::make_backend();
  auto ids = test::upload_ids(be, tokens);
  host const x = one_hot(tokens), y = test::random(dim, x.cols, 4), dy = test::random(dim, x.cols, 5);
  for (bool const pair : {false, true}) {
    auto e = moved<double>(be);
    auto& ad = e.adapter();
    if (pair) {
      test::freeze(be, ad);
      test::upload_to<double>(be, test::random(dim, rank, 9, 0.3), ad.b());
    }
    auto d_y = upload<double>(be, y), d_dy = upload<double>(be, dy);
    e.forward(be, ids.view(), d_y.view());
    CHECK(test::distance(download(be, d_y.view()), y + test::change_of(be, ad) * x) < 1e-13);
    e.backward(be, ids.view(), d_dy.view());
    host const g = dy * transpose(x), a = download(be, ad.a()), b = download(be, ad.b());
    auto const p = ad.parameters();
    CHECK(test::distance(download(be, p[0].gradient), ad.scale() * (transpose(b) * g)) < 1e-13);
    CHECK(test::distance(download(be, p[1].gradient), ad.scale() * (g * transpose(a))) < 1e-13);
    flat as_matrix{e, ids.view()};
    test::check_gradients(be, as_matrix, test::random(dim, 1, 7), test::random(1, x.cols, 8), [] {});
  }
}

TEST_CASE("LoRA's start for embeddings, LoRA-GA's, and merging", "[adapter]") {
  auto be = test::make_backend();
  auto ids = test::upload_ids(be, tokens);
  host const w = test::random(dim, vocabulary, 7), x = one_hot(tokens);
  auto d_w = upload<double>(be, w);
  embedding<double, test::backend> e(be, dim, vocabulary, rank, rank_stable_scaling{});
  auto const whole = [&](auto& layer) {
    auto y = upload<double>(be, download(be, d_w.view()) * x);
    layer.forward(be, ids.view(), y.view());
    return download(be, y.view());
  };
  initialise(be, e.adapter(), embedding_init{});
  CHECK(test::distance(whole(e), w * x) == 0);

  // all ids in one micro-batch, so that the gradient has full rank
  std::vector<std::int32_t> all = tokens;
  for (std::int32_t i = 0; i < vocabulary; ++i) all.push_back(i);
  auto all_ids = test::upload_ids(be, all);
  host const dy = test::random(dim, static_cast<index_t>(all.size()), 5), g = dy * transpose(one_hot(all));
  auto d_dy = upload<double>(be, dy);
  dense_gradient<test::backend, double> dense(be, dim, vocabulary);
  incremental_gradient<test::backend, double> incremental(be, dim, vocabulary, {.rank = rank, .width = dim});
  e.add_gradient(be, dense, d_dy.view(), all_ids.view(), 2.5);
  e.add_gradient(be, incremental, d_dy.view(), all_ids.view(), 2.5);
  CHECK(test::distance(1 / dense.weight() * download(be, dense.sum()), g) < 1e-13);
  auto const found = test::download_triplets(be, incremental.top(be, gram{}, 4));
  auto const expected = test::jacobi_svd(g);
  for (std::size_t i = 0; i < 4; ++i) CHECK(found.s[i] == Approx(expected.s[i]));
  dense_gradient<test::backend> other(be, vocabulary, dim);
  CHECK_THROWS_AS(e.add_gradient(be, other, d_dy.view(), all_ids.view()), shape_error);

  for (bool const in_place : {false, true}) {
    embedding<double, test::backend> ga(be, dim, vocabulary, rank, rank_stable_scaling{});
    if (in_place) initialise(be, ga.adapter(), lora_ga_init{}, d_w.view(), gram{}, dense, in_place_anchor{});
    else initialise(be, ga.adapter(), lora_ga_init{}, d_w.view(), gram{}, dense, frozen_pair_anchor{});
    host const b = download(be, ga.adapter().b()), u = test::columns(expected.u, rank, rank);
    CHECK(test::distance(b * transpose(b), std::sqrt(9.0) / 16 * (u * transpose(u))) < 1e-7);
    CHECK(test::distance(whole(ga), w * x) < 1e-13);
    test::upload_to<double>(be, test::random(dim, rank, 10), ga.adapter().b());
    host const before = whole(ga);
    CHECK(test::distance(before, w * x) > 0.1);
    ga.adapter().merge(be, d_w.view());
    CHECK(test::distance(whole(ga), before) < 1e-13);
    CHECK_THROWS_AS(ga.backward(be, ids.view(), upload<double>(be, before).view()), state_error);
    ga.adapter().unmerge(be, d_w.view());
  }
}

TEST_CASE("an embedding in 16 bit", "[adapter]") {
  auto be = test::make_backend();
  auto ids = test::upload_ids(be, tokens);
  auto e = moved<bf16>(be);
  host const x = one_hot(tokens);
  auto y = upload<bf16>(be, host(dim, x.cols)), dy = upload<bf16>(be, test::random(dim, x.cols, 5));
  e.forward(be, ids.view(), y.view());
  e.backward(be, ids.view(), dy.view());
  host const c = test::change_of(be, e.adapter()) * x, g = download(be, dy.view()) * transpose(x);
  CHECK(test::distance(download(be, y.view()), c) < 0.005 * test::largest(c));
  CHECK(test::distance(download(be, e.adapter().parameters()[0].gradient),
                       e.adapter().scale() * (transpose(download(be, e.adapter().b())) * g)) < 1e-5);
}

TEST_CASE("embeddings refuse what does not fit, unknown ids by name, and change nothing", "[adapter]") {
  auto be = test::make_backend();
  auto e = moved<float>(be);
  auto wrong = test::upload_ids<index_t>(be, {1, 3, 14});
  host const start = test::random(dim, 3, 4);
  auto y = upload<float>(be, start);
  dense_gradient<test::backend> dense(be, dim, vocabulary);
  CHECK_THROWS_WITH(e.forward(be, wrong.view(), y.view()), "embedding::forward: ids(0, 2) is 14, expected 0 ... 13");
  CHECK_THROWS_AS(e.backward(be, wrong.view(), y.view()), value_error);
  CHECK_THROWS_AS(e.add_gradient(be, dense, y.view(), wrong.view()), value_error);
  CHECK_THROWS_AS(e.forward(be, wrong.view().columns(0, 2), y.view()), shape_error);
  CHECK_THROWS_AS(e.forward(be, wrong.view(), y.view().transposed()), shape_error);
  CHECK(test::distance(download(be, y.view()), download(be, upload<float>(be, start).view())) == 0);
  CHECK(test::largest(download(be, e.adapter().gradient())) == 0);
  CHECK(dense.count() == 0);

  auto loaded = moved<float>(be);
  pretended_checkpoint c;
  loaded.adapter().visit_state(c);
  CHECK_THROWS_WITH(loaded.forward(be, wrong.view().columns(0, 2), y.view().columns(0, 2)),
                    Catch::Contains("anchor_again"));

  auto unchecked = moved<float>(be, {.check_ids = false});
  unchecked.forward(be, wrong.view(), y.view());
  host const result = download(be, y.view());
  CHECK(std::isfinite(result(0, 1)));
  CHECK(std::isnan(result(0, 2)));

  CHECK_NOTHROW(e.forward(be, wrong.view().columns(0, 0), y.view().columns(0, 0)));
  CHECK_NOTHROW(e.backward(be, wrong.view().columns(0, 0), y.view().columns(0, 0)));
  CHECK(test::largest(download(be, e.adapter().gradient())) == 0);
}
