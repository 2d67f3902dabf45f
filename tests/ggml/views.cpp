#include <loraga/ggml/products.hpp>

#include "tensors.hpp"

using namespace loraga;
namespace bridge = ggml_bridge;
using test::contains, test::context, test::thrown;

namespace {

/// Views are compared number by number with what ggml says stands there; ggml's rows are the view's.
template <class T, class V>
bool as_ggml_says(V view, ggml_tensor const* t) {
  bool same = view.rows == ggml_nrows(t) && view.cols == t->ne[0];
  for (int k = 0; same && k < view.rows; ++k)
    for (int j = 0; j < view.cols; ++j) {
      auto const n1 = static_cast<int>(t->ne[1]), n2 = static_cast<int>(t->ne[2]);
      same = same && value_as<float>(view(k, j)) == ggml_get_f32_nd(t, j, k % n1, k / n1 % n2, k / n1 / n2);
    }
  return same;
}

}  // namespace

TEMPLATE_TEST_CASE("A ggml weight is viewed as out x in", "[ggml]", float, fp16, bf16) {
  context c;
  auto* const w = test::matrix(c, bridge::detail::type_of<TestType>, 12, 7, 1);
  auto const view = bridge::weight<TestType>(w);
  CHECK(view.rows == 7);
  CHECK(view.cols == 12);
  CHECK(view.data == w->data);
  CHECK(as_ggml_says<TestType>(view, w));
  view(3, 5) = TestType(0.5f);  // the memory itself
  CHECK(ggml_get_f32_nd(w, 5, 3, 0, 0) == 0.5f);

  SECTION("a slice keeps its rows' distance") {
    auto* const part = ggml_view_2d(c, w, 5, 4, w->nb[1], 2 * w->nb[1] + 3 * w->nb[0]);
    auto const seen = bridge::weight<TestType>(part);
    CHECK(seen.row_stride == 12);
    CHECK(as_ggml_says<TestType>(seen, part));
  }
  SECTION("a transposed one is the matrix it stands for") {
    auto* const turned = ggml_transpose(c, w);
    auto const seen = bridge::weight<TestType>(turned);
    CHECK(seen.col_stride == 12);
    CHECK(as_ggml_says<TestType>(seen, turned));
    require_matrix(seen, "test", "view");
  }
  SECTION("one row and one column, of slices too") {
    for (auto* one : {ggml_view_2d(c, w, 12, 1, 1, 0), ggml_view_2d(c, w, 1, 7, w->nb[1], w->nb[0]),
                      ggml_view_2d(c, w, 1, 1, 1, 0), ggml_transpose(c, ggml_view_2d(c, w, 1, 7, w->nb[1], 0))}) {
      auto const seen = bridge::weight<TestType>(one);
      CHECK(as_ggml_says<TestType>(seen, one));
      require_matrix(seen, "test", "view");
      CHECK((seen.row_stride == 1 || seen.row_stride >= seen.cols));  // whatever ggml's says of a single row
      CHECK((seen.col_stride == 1 || seen.col_stride >= seen.rows));
    }
  }
}

TEST_CASE("ggml activations are viewed as features x tokens, sequences joined", "[ggml]") {
  context c;
  auto* const x = test::fill(ggml_new_tensor_4d(c, GGML_TYPE_F32, 6, 5, 3, 2), 2);
  auto const view = bridge::activations(x);
  CHECK(view.rows == 6);
  CHECK(view.cols == 30);
  CHECK(as_ggml_says<float>(view.transposed(), x));
  CHECK(bridge::activations(ggml_new_tensor_2d(c, GGML_TYPE_F32, 6, 0)).cols == 0);

  SECTION("the first tokens of each sequence lie at several distances") {
    auto* const some = ggml_view_3d(c, x, 6, 4, 3, x->nb[1], x->nb[2], 0);
    CHECK(contains(thrown<shape_error>([&] { bridge::activations(some); }), "ggml_cont makes them so"));
  }
  SECTION("the last token of each sequence does not") {
    auto* const last = ggml_view_3d(c, x, 6, 1, 6, x->nb[1], x->nb[2], 4 * x->nb[1]);
    CHECK(as_ggml_says<float>(bridge::activations(last).transposed(), last));
    auto* const later = ggml_view_4d(c, x, 6, 1, 1, 2, x->nb[1], x->nb[2], x->nb[3], 0);
    CHECK(as_ggml_says<float>(bridge::activations(later).transposed(), later));
  }
  SECTION("heads in front of tokens are permuted") {
    auto* const heads = ggml_permute(c, ggml_reshape_3d(c, x, 6, 5, 6), 0, 2, 1, 3);
    CHECK(contains(thrown<shape_error>([&] { bridge::activations(heads); }), "permuted"));
  }
}

TEST_CASE("What is no matrix in host memory is refused by name", "[ggml]") {
  context c;
  auto* const w = test::matrix(c, GGML_TYPE_F32, 8, 6, 3);
  ggml_set_name(w, "blk.0.ffn_up.weight");
  auto const refused = [](ggml_tensor* t) { return thrown<shape_error>([&] { bridge::weight(t); }); };

  CHECK(contains(thrown<value_error>([] { bridge::weight(nullptr); }), "null pointer"));
  auto const other = thrown<value_error>([&] { bridge::weight<fp16>(w); });
  CHECK(contains(other, "blk.0.ffn_up.weight (f32, ne 8 6 1 1, nb 4 32 192 192)"));
  CHECK(contains(other, "expected f16"));
  auto* const q = test::matrix(c, GGML_TYPE_Q8_0, 32, 6, 3);
  CHECK(contains(thrown<value_error>([&] { bridge::weight(q); }), "packed() is for quantised weights"));

  CHECK(contains(refused(ggml_new_tensor_3d(c, GGML_TYPE_F32, 8, 6, 2)), "no matrix"));
  auto strided = *w;
  strided.nb[0] = 8, strided.nb[1] = 64;
  CHECK(contains(refused(&strided), "permuted"));
  auto overlapping = *w;
  overlapping.nb[1] = 16;
  CHECK(contains(refused(&overlapping), "overlap"));
  auto repeated = *w;
  repeated.nb[1] = 0;
  CHECK(contains(refused(&repeated), "broadcast along dimension 1"));
  auto odd = *w;
  odd.nb[1] = 34;
  CHECK(contains(refused(&odd), "whole elements"));

  context none(true);
  auto const empty = thrown<state_error>([&] { bridge::weight(ggml_new_tensor_2d(none, GGML_TYPE_F32, 8, 6)); });
  CHECK(contains(empty, "without memory"));
}

TEST_CASE("A buffer that the host does not read as it is, is refused by name", "[ggml]") {
  auto* const type = test::repacked_buffers();
  REQUIRE(type);
  context c(true);
  auto* const plain = ggml_new_tensor_2d(c, GGML_TYPE_F32, 32, 8);
  auto* const packed = ggml_new_tensor_2d(c, GGML_TYPE_Q4_0, 32, 8);
  auto* const part = ggml_view_2d(c, packed, 32, 4, packed->nb[1], 0);
  auto* const buffer = ggml_backend_alloc_ctx_tensors_from_buft(c, type);
  REQUIRE(buffer);
  std::string const name = ggml_backend_buffer_name(buffer);
  CHECK(contains(thrown<state_error>([&] { bridge::weight(plain); }), name));
  CHECK(contains(thrown<state_error>([&] { bridge::packed(packed); }), name));
  CHECK(contains(thrown<state_error>([&] { bridge::packed(part); }), name));  // a view's memory is its source's
  ggml_backend_buffer_free(buffer);

  context host(true);
  auto* const here = ggml_new_tensor_2d(host, GGML_TYPE_F32, 32, 8);
  auto* const memory = ggml_backend_alloc_ctx_tensors_from_buft(host, ggml_backend_cpu_buffer_type());
  CHECK(bridge::weight(here).data == here->data);
  ggml_backend_buffer_free(memory);
}

TEST_CASE("Quantised weights unpack by rows to ggml's own numbers", "[ggml]") {
  context c;
  cpu be(2);
  for (auto const type :
       {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
        GGML_TYPE_Q8_0, GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K}) {
    auto* const w = test::matrix(c, type, 512, 1100, 4);  // more than one piece
    auto const expected = test::unpacked_by_ggml(w);
    index_t rows = 0, pieces = 0;
    bool same = true;
    bridge::by_rows(be, w, [&](index_t first, auto some) {
      same = same && first == rows;
      for (index_t i = 0; i < some.rows; ++i)
        for (index_t j = 0; j < some.cols; ++j)
          same = same && some(i, j) == expected[static_cast<std::size_t>((first + i) * 512 + j)];
      rows += some.rows;
      ++pieces;
    });
    INFO(ggml_type_name(type));
    CHECK(same);
    CHECK(rows == 1100);
    CHECK(pieces == (type == GGML_TYPE_F32 ? 1 : 2));
    auto const all = bridge::unpacked(be, w);
    CHECK(all.view()(1099, 511) == expected.back());
  }
}

TEST_CASE("dX of a quantised weight", "[ggml]") {
  context c;
  cpu be(2);
  auto const type = GENERATE(GGML_TYPE_F32, GGML_TYPE_Q4_0, GGML_TYPE_Q6_K);
  auto *const w = test::matrix(c, type, 512, 1100, 5), *const dy = test::matrix(c, GGML_TYPE_F32, 1100, 9, 6),
              *const dx = test::matrix(c, GGML_TYPE_F32, 512, 9, 7);
  test::reference const old = test::reference(dx).transposed();
  auto const expected = test::reference(w).transposed() * test::reference(dy).transposed();
  bridge::multiply_transposed(be, w, bridge::activations(dy), 0.5, bridge::activations(dx));
  CHECK(test::difference(bridge::activations(dx), expected + 0.5 * old) < 1e-6);
  bridge::multiply_transposed(be, w, bridge::activations(dy), 0, bridge::activations(dx));
  CHECK(test::difference(bridge::activations(dx), expected) < 1e-6);

  auto const narrow = bridge::activations(ggml_view_2d(c, dx, 500, 9, dx->nb[1], 0));
  CHECK_THROWS_AS(bridge::multiply_transposed(be, w, bridge::activations(dy), 0, narrow), shape_error);
  auto const few = bridge::activations(ggml_view_2d(c, dy, 1100, 4, dy->nb[1], 0));
  CHECK_THROWS_AS(bridge::multiply_transposed(be, w, few, 0, bridge::activations(dx)), shape_error);
  CHECK(test::difference(bridge::activations(dx), expected) < 1e-6);
}

TEST_CASE("Packed weights that cannot be read are refused by name", "[ggml]") {
  context c;
  auto const refused = [](ggml_tensor* t) { return thrown<format_error>([&] { bridge::packed(t); }); };
  CHECK(contains(refused(ggml_new_tensor_2d(c, GGML_TYPE_IQ4_NL, 32, 4)), "IQ4_NL"));
  CHECK(contains(refused(ggml_new_tensor_2d(c, GGML_TYPE_Q2_0, 256, 4)), "a type of ggml"));
  CHECK(contains(thrown<format_error>([] {
                   bridge::detail::check_block({gguf_type::Q4_0, "Q4_0", 32, 18}, 20, 32, "packed", "w");
                 }),
                 "20 bytes for 32 numbers, expected 18 for 32, as Q4_0"));
  auto* const experts = ggml_new_tensor_3d(c, GGML_TYPE_Q8_0, 64, 4, 3);
  CHECK(contains(thrown<shape_error>([&] { bridge::packed(experts); }), "ggml_view_2d"));
  auto* const one = ggml_view_2d(c, experts, 64, 4, experts->nb[1], experts->nb[2]);
  CHECK(bridge::packed(one).bytes.data() == static_cast<std::byte const*>(experts->data) + 4 * 68);
  auto* const left = ggml_view_2d(c, one, 32, 4, one->nb[1], 0);
  CHECK(contains(thrown<shape_error>([&] { bridge::packed(left); }), "contiguous"));
  CHECK(contains(thrown<value_error>([&] { bridge::packed(nullptr); }), "null pointer"));
}
