#include <loraga/linalg/random.hpp>
#include <loraga/linalg/reductions.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

// Work in step is that of a loop, whatever tasks do: the same kernels in each member's order.

namespace {

using loraga::index_t;
using step_matrix = loraga::matrix<float, test::backend>;

/// Several matrices of two shapes, and what tasks make of them.
struct stepped_work {
  test::backend be = test::make_backend();
  std::vector<step_matrix> a, b, c;
  loraga::matrix<double, test::backend> cells{be, 1, 7};

  stepped_work() {
    for (index_t i = 0; i < 7; ++i) {
      index_t const n = i % 3 == 2 ? 80 : 50;
      a.push_back(test::upload<float>(be, test::random(n, 9, static_cast<std::uint64_t>(i))));
      b.push_back(test::upload<float>(be, test::random(9, 6, static_cast<std::uint64_t>(20 + i))));
      c.push_back(test::upload<float>(be, test::random(n, 6, static_cast<std::uint64_t>(40 + i))));
    }
    loraga::fill(be, cells.view(), 0);
  }
  std::vector<double> numbers() {
    std::vector<double> all = test::download(be, cells.view()).data;
    for (auto& m : c) {
      auto const more = test::download(be, m.view()).data;
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  }
  /// A task with scratch and memory of its own, a product and a reduction.
  void task(test::backend& w, index_t i) {
    auto const at = static_cast<std::size_t>(i);
    loraga::scratch<test::backend> temporary(w);
    auto const half = temporary.template matrix<float>(a[at].rows(), 9);
    loraga::axpby(w, 0.5, a[at].view(), 0.0, half);
    step_matrix own(w, a[at].rows(), 6);
    w.gemm(1.0, half, b[at].view(), 0.0, own.view());
    loraga::axpby(w, 1.0, own.view(), i % 2 ? 1.0 : 0.0, c[at].view());
    loraga::max_abs(w, c[at].view(), cells.view().columns(i, 1));
  }
};

template <class F>
std::vector<double> by_loop(F const& task) {
  stepped_work work;
  for (index_t i = 0; i < 7; ++i) task(work, work.be, i);
  return work.numbers();
}
template <class F>
std::vector<double> in_step_of(F const& task) {
  stepped_work work;
  loraga::detail::in_step(work.be, 7, [&](test::backend& w, index_t i) { task(work, w, i); });
  return work.numbers();
}
/// Batched products may round in another order.
void check_same(std::vector<double> const& x, std::vector<double> const& y) {
  REQUIRE(x.size() == y.size());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(x[i] - y[i]));
  CHECK(worst <= (test::batches_keep_bits ? 0 : 1e-5));
}

}  // namespace

TEST_CASE("work in step is the work of a loop", "[backend]") {
  auto const plain = [](stepped_work& work, test::backend& w, index_t i) { work.task(w, i); };
  check_same(by_loop(plain), in_step_of(plain));
}
TEST_CASE("a task in step may wait and read", "[backend]") {
  auto const reading = [](stepped_work& work, test::backend& w, index_t i) {
    work.task(w, i);
    double const found = loraga::read_scalar(w, work.cells.view().columns(i, 1));
    CHECK(found > 0);
    loraga::axpby(w, 1 / found, work.c[static_cast<std::size_t>(i)].view(), 0.0,
                  work.c[static_cast<std::size_t>(i)].view());
  };
  check_same(by_loop(reading), in_step_of(reading));
}
TEST_CASE("steps in step, and after another", "[backend]") {
  auto const nested = [](stepped_work& work, test::backend& w, index_t i) {
    loraga::detail::in_step(w, 2, [&](test::backend& v, index_t twice) {
      if (twice == 0) work.task(v, i);
    });
  };
  check_same(by_loop(nested), in_step_of(nested));
}
TEST_CASE("what came before an exception in step is done", "[backend]") {
  stepped_work work;
  auto const stop = [&](test::backend& w, index_t i) {
    if (i == 4) throw loraga::value_error("stop");
    work.task(w, i);
  };
  CHECK_THROWS_AS(loraga::detail::in_step(work.be, 7, stop), loraga::value_error);
  auto const cells = test::download(work.be, work.cells.view()).data;
  for (std::size_t i = 0; i < 7; ++i) CHECK((cells[i] > 0) == (i < 4));
  work.task(work.be, 5);  // and nothing is held back afterwards
  CHECK(test::download(work.be, work.cells.view()).data[5] > 0);
}
#ifdef LORAGA_TEST_DOUBLE
TEST_CASE("work in step is one launch for what is alike", "[backend]") {
  stepped_work work;
  auto const before = device_double::counted();
  loraga::detail::in_step(work.be, 7, [&](test::backend& w, index_t i) { work.task(w, i); });
  auto const did = device_double::counted() - before;
  CHECK(did.products == 2);  // two shapes
  CHECK(did.copies <= 3);    // a table, and addresses for each product
  CHECK(did.launches() <= 20);
  CHECK(did.waits == 0);
}
TEST_CASE("a failure in step leaves nothing behind", "[backend]") {
  stepped_work work;
  work.be.synchronize();
  auto const live = device_double::live_device_allocations();
  device_double::fail_next("cublasGemmBatchedEx_64", 13);
  CHECK_THROWS_AS(loraga::detail::in_step(work.be, 7, [&](test::backend& w, index_t i) { work.task(w, i); }),
                  loraga::backend_error);
  work.be.trim();
  work.be.synchronize();
  CHECK(device_double::live_device_allocations() <= live + 1);
  work.task(work.be, 3);
  CHECK(test::download(work.be, work.cells.view()).data[3] > 0);
}
#endif
