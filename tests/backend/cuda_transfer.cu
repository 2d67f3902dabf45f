#include <loraga/backend/cuda_transfer.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::backend;
using test::host;

namespace {

using host_view = matrix_view<float, host_space>;

/// Five ways for a 4 x 3 matrix to lie in a buffer of 200 numbers.
template <class Space>
std::vector<matrix_view<float, Space>> layouts(float* p, bool any) {
  std::vector<matrix_view<float, Space>> all{{p, 4, 3, 1, 4}, {p, 4, 3, 1, 9}, {p, 4, 3, 3, 1}, {p, 4, 3, 11, 1}};
  if (any) all.push_back({p, 4, 3, 2, 13});  // no unit stride: the device alone can
  return all;
}

}  // namespace

TEST_CASE("copies cross between host and device in any layout and touch nothing else", "[cuda]") {
  auto be = test::make_backend();
  matrix<float, backend> device(be, 200, 1);
  std::vector<float> there(200), back(200);
  for (auto const to : layouts<device_space>(device.view().data, true))
    for (auto const from : layouts<host_space>(there.data(), false))
      for (auto const home : layouts<host_space>(back.data(), false)) {
        fill(be, device.view(), -1);
        std::fill(there.begin(), there.end(), -2.0f);
        std::fill(back.begin(), back.end(), -3.0f);
        for (index_t j = 0; j < 3; ++j)
          for (index_t i = 0; i < 4; ++i) from(i, j) = static_cast<float>(10 * i + j);
        be.copy(from, to);
        be.copy(to, home);
        be.synchronize();
        bool same = true;
        for (index_t j = 0; j < 3; ++j)
          for (index_t i = 0; i < 4; ++i) same = same && home(i, j) == static_cast<float>(10 * i + j);
        CHECK(same);
        CHECK(std::count(back.begin(), back.end(), -3.0f) == 200 - 12);
        auto const all = read_all(be, device.view());
        CHECK(std::count(all.begin(), all.end(), -1.0f) == 200 - 12);
      }
}

TEST_CASE("rows, columns, single numbers and nothing", "[cuda]") {
  auto be = test::make_backend();
  auto d = test::upload<float>(be, test::random(6, 5, 1));
  host const all = test::download(be, d.view());
  CHECK(test::distance(test::download(be, d.view().row_range(2, 1)), test::rows(all, 2, 1)) == 0);
  CHECK(test::distance(test::download(be, d.view().columns(3, 1)), test::columns(all, 3, 1)) == 0);
  CHECK(read_scalar(be, d.view().row_range(5, 1).columns(4, 1)) == static_cast<float>(all(5, 4)));
  CHECK(read_all(be, d.view().columns(0, 0)).empty());
  CHECK(read_all(be, test::view<float>{}).empty());
}

TEST_CASE("views that lie about their space are refused before a kernel meets them", "[cuda]") {
  auto be = test::make_backend();
  auto d = test::upload<float>(be, test::random(3, 2, 1));
  std::vector<float> memory(6);
  auto const here = col_major(memory.data(), 3, 2);
  matrix_view<float, device_space> const liar(memory.data(), 3, 2, 1, 3);
  host_view const other_liar(d.view().data, 3, 2, 1, 3);
  int device = 0, reads_host_memory = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&reads_host_memory, cudaDevAttrPageableMemoryAccess, device);
  if (!reads_host_memory) {  // else it is no lie
    CHECK_THROWS_WITH(be.copy(here, liar), Catch::Contains("destination is in host memory"));
    CHECK_THROWS_WITH(be.copy(liar, here), Catch::Contains("source is in host memory"));
  }
  CHECK_THROWS_WITH(be.copy(other_liar, d.view()), Catch::Contains("source is in device memory"));
  CHECK_THROWS_WITH(be.copy(d.view(), other_liar), Catch::Contains("destination is in device memory"));
  auto const pinned = be.allocate_host<float>(6);
  auto const fast = col_major(pinned.get(), 3, 2);
  CHECK_NOTHROW(be.copy(d.view(), fast));
  be.synchronize();
  CHECK(fast(2, 1) == static_cast<float>(test::download(be, d.view())(2, 1)));
  host_view const gaps(memory.data(), 2, 2, 2, 3);
  CHECK_THROWS_AS(be.copy(gaps, d.view().row_range(0, 2)), shape_error);
  CHECK_THROWS_AS(be.copy(here, d.view().transposed()), shape_error);
}
