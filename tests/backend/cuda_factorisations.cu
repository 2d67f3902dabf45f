#include <loraga/backend/cuda_factorisations.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

using namespace loraga;
using test::backend;
using test::host;

// What primitives.cpp asks of one matrix, asked of batches: members of every kind beside each other, slabs with gaps.

namespace {

struct batch {
  backend be;
  slab<double, backend> big{be, 4, 8, 9}, values{be, 4, 6, 1};
  slab<int, backend> flags{be, 4, 1, 1};
  std::vector<host> all;
  batch() {
    fill(be, big.view().side_by_side(), 7);
    fill(be, flags.view().side_by_side(), 0);
    for (std::uint64_t i = 0; i < 4; ++i) {
      host const y = test::random(20, 6, i);
      all.push_back(std::vector{1.0, 1e-40, 1e30, 1.0}[i] * (test::transpose(y) * y));
    }
    all[3](2, 4) = all[3](4, 2) = NAN;
    for (index_t i = 0; i < 4; ++i) test::upload_to<double>(be, all[static_cast<std::size_t>(i)], s()[i]);
  }
  /// 6 x 6 each, with a leading dimension of 8 and gaps between
  slab_view<double, device_space> s() {
    auto const b = big.view();
    return {b.data + 8, 4, 6, 6, 1, 8, 72};
  }
  std::vector<int> found() { return read_all(be, flags.view().side_by_side()); }
  void check_gaps() {
    auto const first = read_all(be, big.view()[0]);
    for (std::size_t e = 0; e < 8; ++e) CHECK(first[e] == 7);  // the column before
    for (std::size_t e = 14; e < 16; ++e) CHECK(first[e] == 7);
  }
};

}  // namespace

TEST_CASE("batched Cholesky: good members are factored beside bad ones", "[cuda]") {
  batch b;
  b.be.cholesky_inverse_batched(b.s(), 1e-14, 0, b.flags.view());
  CHECK(b.found() == std::vector<int>{0, 0, 0, svd_ill_conditioned});
  for (index_t i = 0; i < 3; ++i) {
    host const r = test::download(b.be, b.s()[i]);
    CHECK(test::distance(test::transpose(r) * b.all[static_cast<std::size_t>(i)] * r, test::identity(6)) < 1e-10);
    CHECK(r(4, 2) == 0);
  }
  CHECK(test::distance(test::download(b.be, b.s()[3]), test::identity(6)) == 0);
  b.check_gaps();
  auto const s = b.s();
  slab_view<double, device_space> const by_rows(s.data, 4, 6, 6, 8, 1, 72), narrow(s.data, 4, 5, 6, 1, 8, 72);
  CHECK_THROWS_AS(b.be.cholesky_inverse_batched(by_rows, 0, 0, b.flags.view()), shape_error);
  CHECK_THROWS_AS(b.be.cholesky_inverse_batched(narrow, 0, 0, b.flags.view()), shape_error);
  CHECK_THROWS_AS(b.be.cholesky_inverse_batched(s, 0, 0, b.flags.view().matrices(0, 3)), shape_error);
}

TEST_CASE("batched eigenproblems: good members are solved beside bad ones, at any scale", "[cuda]") {
  batch b;
  b.be.eigh_batched(b.s(), 4, b.values.view(), b.flags.view());
  CHECK(b.found() == std::vector<int>{0, 0, 0, svd_not_converged});
  for (index_t i = 0; i < 3; ++i) {
    host const& s = b.all[static_cast<std::size_t>(i)];
    host const w = test::columns(test::download(b.be, b.s()[i]), 0, 4),
               lambda = test::download(b.be, b.values.view()[i]);
    CHECK(test::orthonormality(w) < 1e-12);
    CHECK(test::distance(s * w, w * test::diagonal(4, 4, lambda.data)) < 1e-12 * test::norm(s));
    double trace = 0, sum = 0;
    for (index_t j = 0; j < 6; ++j) trace += s(j, j), sum += lambda(j, 0);
    CHECK(sum == Approx(trace).epsilon(1e-12));
    for (index_t j = 1; j < 6; ++j) CHECK(lambda(j, 0) <= lambda(j - 1, 0));
  }
  b.check_gaps();
}

TEST_CASE("empty batches and empty matrices are no work", "[cuda]") {
  auto be = test::make_backend();
  slab<double, backend> none(be, 0, 3, 3), flat(be, 2, 0, 0);
  slab<int, backend> flags(be, 2, 1, 1);
  CHECK_NOTHROW(be.cholesky_inverse_batched(none.view(), 0, 0, flags.view().matrices(0, 0)));
  CHECK_NOTHROW(be.cholesky_inverse_batched(flat.view(), 0, 0, flags.view()));
}

TEST_CASE("a batch too large for one call of cuSOLVER goes in several", "[cuda]") {
  CHECK(gpu::solver_share(640, 128) == 128);
  CHECK(gpu::solver_share(640, 1000) == 500);    // 655 would fit
  CHECK(gpu::solver_share(4096, 128) == 15);     // 2^31 bytes are 16, one too many
  CHECK(gpu::solver_share(8, 100000) == 14286);  // 16384 at most
  CHECK(gpu::solver_share(20000, 3) == 1);
  index_t const one = 6 * 6 * 8;
  for (index_t const bytes : {index_t{1}, one, 3 * one, 4 * one}) {
    INFO(bytes << " bytes");
    batch whole, cut;
    whole.be.eigh_batched(whole.s(), 4, whole.values.view(), whole.flags.view());
    gpu::eigh(cut.be, cut.s(), 4, cut.values.view(), cut.flags.view(), bytes);
    CHECK(cut.found() == whole.found());
    CHECK(cut.found() == std::vector<int>{0, 0, 0, svd_not_converged});
    for (index_t i = 0; i < 3; ++i) {
      CHECK(read_all(cut.be, cut.s()[i].columns(0, 4)) == read_all(whole.be, whole.s()[i].columns(0, 4)));
      CHECK(read_all(cut.be, cut.values.view()[i]) == read_all(whole.be, whole.values.view()[i]));
    }
    cut.check_gaps();
    batch whole_root, cut_root;
    whole_root.be.cholesky_inverse_batched(whole_root.s(), 1e-14, 0, whole_root.flags.view());
    gpu::cholesky_inverse(cut_root.be, cut_root.s(), 1e-14, 0, cut_root.flags.view(), bytes);
    CHECK(cut_root.found() == std::vector<int>{0, 0, 0, svd_ill_conditioned});
    for (index_t i = 0; i < 4; ++i)
      CHECK(read_all(cut_root.be, cut_root.s()[i]) == read_all(whole_root.be, whole_root.s()[i]));
  }
}

#ifdef LORAGA_TEST_DOUBLE
TEST_CASE("eigenproblems of a model's size: few calls, and scratch for one of them", "[cuda]") {
  device_double::dry(true);
  {
    backend be;
    index_t const n = 4096, count = 40;
    slab<double, backend> s(be, count, n, n), values(be, count, n, 1);
    slab<int, backend> flags(be, count, 1, 1);
    device_double::reset_peak_device_bytes();
    auto const before = device_double::counted();
    auto const held = device_double::live_device_bytes();
    be.eigh_batched(s.view(), 8, values.view(), flags.view());
    CHECK((device_double::counted() - before).solvers == 3);
    CHECK(device_double::peak_device_bytes() - held < std::size_t{6}
                                                          << 30);  // all at once would be 6 GB, and a workspace
  }
  device_double::dry(false);
}
#endif
