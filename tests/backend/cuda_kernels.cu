#include <loraga/backend/cuda_kernels.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

using namespace loraga;
using test::backend;

namespace {

template <class V>
struct mark {
  V y;
  LORAGA_HD void operator()(index_t i, index_t j) const { y(i, j) += static_cast<double>(i + 1000 * j); }
};

/// Sums in order of rows, as text would: keeps the first and last row seen and how many there were.
template <class V>
struct span_of_rows {
  struct value_type {
    index_t first, last, count;
  };
  V y;
  LORAGA_HD static value_type identity() { return {index_t{1} << 60, -1, 0}; }
  LORAGA_HD value_type map(index_t i, index_t) const { return {i, i, 1}; }
  LORAGA_HD static value_type combine(value_type a, value_type b) {
    return {a.first < b.first ? a.first : b.first, a.last > b.last ? a.last : b.last, a.count + b.count};
  }
  LORAGA_HD void finish(index_t j, value_type v) const {
    y(0, j) = static_cast<double>(v.count == 0 ? -1 : v.first);
    y(1, j) = static_cast<double>(v.last);
    y(2, j) = static_cast<double>(v.count);
  }
};

}  // namespace

TEST_CASE("for_each visits every element once", "[cuda]") {
  auto be = test::make_backend();
  for (auto const& [rows, cols] :
       std::vector<std::pair<index_t, index_t>>{{1, 1}, {1, 700}, {700, 1}, {33, 65}, {257, 31}}) {
    auto y = test::upload<double>(be, test::host(rows, cols));
    be.for_each(rows, cols, mark<test::view<double>>{y.view()});
    auto const want =
        test::generate(rows, cols, [](index_t i, index_t j) { return static_cast<double>(i + 1000 * j); });
    CHECK(test::distance(test::download(be, y.view()), want) == 0);
  }
  CHECK_NOTHROW(be.for_each(0, 5, mark<test::view<double>>{{}}));
  CHECK_NOTHROW(be.for_each(5, 0, mark<test::view<double>>{{}}));
}

TEST_CASE("reduce_columns combines every row once, whatever the length", "[cuda]") {
  auto be = test::make_backend();
  for (index_t const rows : {0, 1, 31, 32, 33, 1023, 1024, 1025, 32769, 40000})
    for (index_t const cols : {1, 3}) {
      INFO(rows << " rows");
      auto y = test::upload<double>(be, test::host(3, cols));
      be.reduce_columns(rows, cols, span_of_rows<test::view<double>>{y.view()});
      auto const got = test::download(be, y.view());
      for (index_t j = 0; j < cols; ++j) {
        CHECK(got(0, j) == (rows ? 0 : -1));
        CHECK(got(1, j) == static_cast<double>(rows - 1));
        CHECK(got(2, j) == static_cast<double>(rows));
      }
    }
}

#ifdef LORAGA_TEST_DOUBLE
TEST_CASE("a launch that Thrust reports as failed is a backend_error, and the next one works", "[cuda]") {
  auto be = test::make_backend();
  auto y = test::upload<double>(be, test::host(2, 2));
  device_double::fail_next("cudaPeekAtLastError", cudaErrorInvalidDeviceFunction);
  try {
    be.for_each(2, 2, mark<test::view<double>>{y.view()});
    FAIL("no exception");
  } catch (backend_error const& e) {
    CHECK(e.code == 98);
    CHECK_THAT(e.what(), Catch::StartsWith("cuda::for_each: launch failed ("));
  }
  CHECK_NOTHROW(be.for_each(2, 2, mark<test::view<double>>{y.view()}));
}
#endif
