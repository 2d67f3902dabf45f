#include <loraga/backend/cuda_gram.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

using namespace loraga;
using test::backend;
using test::host;

namespace {

/// Gram matrices of `count` matrices, by rows or columns, in a slab with gaps and as a list, in pieces of `bytes`.
template <class T>
void check_grams(index_t count, index_t rows, index_t cols, bool by_rows, index_t bytes) {
  backend be;
  index_t const lead = (by_rows ? cols : rows) + 3, across = by_rows ? rows : cols;
  slab<T, backend> memory(be, count, lead, across);
  slab<double, backend> s(be, count, cols, cols);
  slab_view<T, device_space> y(memory.view().data + 1, count, lead - 3, across, 1, lead, lead * across);
  if (by_rows) y = y.transposed();
  std::vector<host> want;
  std::vector<matrix_view<T, device_space>> views;
  for (index_t b = 0; b < count; ++b) {
    auto const one = test::random(rows, cols, static_cast<std::uint64_t>(b));
    test::upload_to<T>(be, one, y[b]);
    host const held = test::download(be, y[b]);
    want.push_back(test::transpose(held) * held);
    views.push_back(y[b]);
  }
  INFO(count << " times " << rows << "x" << cols << (by_rows ? " by rows" : "") << " in pieces of " << bytes);
  auto const check = [&] {
    for (index_t b = 0; b < count; ++b)
      REQUIRE(test::distance(test::download(be, s.view()[b]), want[static_cast<std::size_t>(b)]) <
              1e-13 * static_cast<double>(rows * cols));
  };
  fill(be, s.view().side_by_side(), NAN);
  gpu::gram(be, y, s.view(), bytes);
  check();
  fill(be, s.view().side_by_side(), NAN);
  scratch<backend> temporary(be);
  gpu::gram(be, view_list(views), s.view(), bytes);
  check();
  fill(be, s.view().side_by_side(), NAN);
  gpu::gram(be, be.prepared(temporary, view_list(views)), s.view(), bytes);
  check();
}

}  // namespace

TEST_CASE("Gram matrices in any layout and type, in pieces of rows and members", "[cuda]") {
  for (bool const by_rows : {false, true}) {
    check_grams<float>(5, 70, 7, by_rows, gpu::gram_bytes);
    check_grams<bf16>(3, 40, 6, by_rows, gpu::gram_bytes);
    check_grams<double>(3, 40, 6, by_rows, 1);
    check_grams<float>(3, 2500, 5, by_rows, 1);                 // member by member, 1024 rows at a time
    check_grams<float>(4, 2500, 3, by_rows, 2 * 3 * 8 * 1300);  // two members at a time
    check_grams<fp16>(1, 1100, 4, by_rows, 1);
  }
}

TEST_CASE("Gram matrices of lists with unlike strides, and of no rows", "[cuda]") {
  backend be;
  host const y = test::random(9, 4, 1);
  auto const by_columns = test::upload<float>(be, y), by_rows = test::upload<float>(be, test::transpose(y));
  const_view<float, device_space> const views[] = {by_columns.view(), by_rows.view().transposed()};
  slab<double, backend> s(be, 2, 4, 4);
  be.gram_batched(view_list(views, 2), s.view());
  for (index_t b = 0; b < 2; ++b) {
    host const held = test::download(be, views[b]);
    CHECK(test::distance(test::download(be, s.view()[b]), test::transpose(held) * held) < 1e-13);
  }
  slab<float, backend> empty(be, 2, 0, 4);
  be.gram_batched(empty.view(), s.view());
  CHECK(test::largest(test::download(be, s.view()[1])) == 0);
}

TEST_CASE("a Gram matrix's share keeps to its bytes where 1024 rows of one member fit", "[cuda]") {
  auto const is = [](index_t members, index_t rows, gpu::gram_share share) {
    CHECK(share.members == members);
    CHECK(share.rows == rows);
  };
  is(128, 4096, gpu::share_gram(128, 4096, 24));
  is(128, 4096, gpu::share_gram(128, 4096, 64));
  is(128, 1024, gpu::share_gram(128, 4096, 192));
  is(43, 1024, gpu::share_gram(128, 4096, 640));
  is(8, 1024, gpu::share_gram(128, 4096, 4096));
  is(1, 1024, gpu::share_gram(3, 100000, 50000));
  is(7, 10, gpu::share_gram(7, 10, 3));
  is(1, 10, gpu::share_gram(7, 10, 3, 1));
}

#ifdef LORAGA_TEST_DOUBLE
TEST_CASE("a slab's Gram matrices are two launches, a prepared list's too", "[cuda]") {
  backend be;
  slab<float, backend> y(be, 70, 30, 4);
  slab<double, backend> s(be, 70, 4, 4);
  std::vector<matrix_view<float, device_space>> views;
  for (index_t b = 0; b < 70; ++b) views.push_back(y.view()[b]);
  fill(be, y.view().side_by_side(), 1);
  scratch<backend> temporary(be);
  auto const list = be.prepared(temporary, view_list(views));
  auto const launches = [&](auto const& batch) {
    auto const before = device_double::counted();
    be.gram_batched(batch, s.view());
    return (device_double::counted() - before).launches();
  };
  CHECK(launches(y.view()) == 2);
  CHECK(launches(list) == 2);
  CHECK(launches(view_list(views)) == 3);  // and a copy of its addresses
}
#endif
