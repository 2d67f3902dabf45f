#include <loraga/backend/eigh.hpp>

#include <Eigen/Eigenvalues>
#include <functional>

#include "../support/catch.hpp"
#include "../support/host.hpp"

using namespace loraga;
using test::host;

namespace {

double const eps = std::numeric_limits<double>::epsilon();

/// What went wrong with eigh of s, in units of n*eps: residuals, orthogonality, and values against Eigen's.
struct eigh_errors {
  double residual = 0, orthogonality = 0, value = 0;
  bool found = false, descending = true;

  eigh_errors(host const& s, index_t k, index_t gap = 0) {
    index_t const n = s.rows;
    double const largest = test::largest(s), unit = largest > 0 ? std::ldexp(1.0, -std::ilogb(largest)) : 1.0;
    std::vector<double> memory(static_cast<std::size_t>((n + gap) * n), NAN), values(static_cast<std::size_t>(n));
    matrix_view<double, host_space> const a(memory.data(), n, n, 1, n + gap);
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < n; ++i) a(i, j) = s(i, j);
    eigen::packing packs;
    found = eigen::eigh<double>(a, k, col_major(values.data(), n, 1), packs);
    if (!found) return;
    Eigen::MatrixXd m(n, n), w(n, k);
    Eigen::VectorXd leading(k);
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < n; ++i) m(i, j) = unit * s(i, j);
    for (index_t j = 0; j < k; ++j)
      for (index_t i = 0; i < n; ++i) w(i, j) = a(i, j);
    for (double& x : values) x *= unit;
    std::copy(values.begin(), values.begin() + k, leading.data());
    Eigen::VectorXd const expected =
        Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(m, Eigen::EigenvaluesOnly).eigenvalues().reverse();
    double const size = std::max(expected.cwiseAbs().maxCoeff(), 1e-300), rounding = eps * static_cast<double>(n);
    residual = (m * w - w * leading.asDiagonal()).colwise().norm().maxCoeff() / size / rounding;
    orthogonality = (w.transpose() * w - Eigen::MatrixXd::Identity(k, k)).cwiseAbs().maxCoeff() / rounding;
    for (index_t i = 0; i < n; ++i) {
      value = std::max(value, std::abs(values[static_cast<std::size_t>(i)] - expected[i]) / size / rounding);
      descending &= i == 0 || values[static_cast<std::size_t>(i)] <= values[static_cast<std::size_t>(i - 1)];
    }
  }
  bool right() const {
    return found && descending && residual < 4 && orthogonality < 4 && value < 4;  // NaN is not
  }
};

void check(host const& s, index_t k, std::string const& what, index_t gap = 0) {
  eigh_errors const e(s, k, gap);
  INFO(what << ", n = " << s.rows << ", k = " << k << ": residual " << e.residual << ", orthogonality "
            << e.orthogonality << ", values " << e.value << " n*eps; found " << e.found << ", descending "
            << e.descending);
  CHECK(e.right());
}

using entry = std::function<double(double)>;

host tridiagonal(index_t n, entry const& diagonal, entry const& beside) {
  return test::generate(n, n, [&](index_t i, index_t j) {
    if (i == j) return diagonal(static_cast<double>(i));
    return std::abs(i - j) == 1 ? beside(static_cast<double>(std::min(i, j))) : 0.0;
  });
}
/// Values f(0..n-1) and random vectors.
host dense_with(index_t n, entry const& f) {
  host const q = test::orthonormal(n, n, 11);
  host scaled = q;
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < n; ++i) scaled(i, j) *= f(static_cast<double>(j));
  host s = scaled * test::transpose(q);
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < j; ++i) s(i, j) = s(j, i);
  return s;
}
host symmetric(index_t n, std::uint64_t seed) {
  host const y = test::random(n, n, seed);
  return y + test::transpose(y);
}
host gram_of(host const& y) { return test::transpose(y) * y; }

std::vector<std::pair<std::string, host>> structured(index_t n) {
  std::vector<std::pair<std::string, host>> all;
  auto const last = static_cast<double>(n - 1);
  auto const add = [&](std::string const& name, host const& s) { all.emplace_back(name, s); };
  add("random", symmetric(n, 1));
  add("Gram of low rank", gram_of(test::random((n + 2) / 3, n, 2)));
  add("Gram of rank one", gram_of(test::random(1, n, 3)));
  for (double const smallest : {1e-2, 1e-6, 1e-14, 1e-30})
    add("geometric", dense_with(n, [&](double i) { return n > 1 ? std::pow(smallest, i / last) : 1.0; }));
  for (double const power : {1.0, 4.0}) add("power", dense_with(n, [&](double i) { return std::pow(i + 1, -power); }));
  add("both signs", dense_with(n, [](double i) { return (std::fmod(i, 2) > 0 ? -1 : 1) * std::pow(0.7, i); }));
  add("identity", test::identity(n));
  add("zero", host(n, n));
  add("ones", host(n, n, 1.0));
  add("projector", dense_with(n, [&](double i) { return i < last / 2 ? 1.0 : 0.0; }));
  add("reflection", dense_with(n, [](double i) { return std::fmod(i, 2) > 0 ? 1.0 : -1.0; }));
  add("five values", dense_with(n, [](double i) { return 1 + std::fmod(i, 5); }));
  for (double const spread : {1e-9, 1e-12, 1e-15})
    add("cluster", dense_with(n, [&](double i) { return 1 + spread * i; }));
  add("rank and noise", dense_with(n, [&](double i) { return i < last / 8 + 1 ? 1 / (i + 1) : 1e-15; }));
  auto const constant = [](double x) { return [x](double) { return x; }; };
  add("second differences", tridiagonal(n, constant(2), constant(-1)));
  add("zero diagonal", tridiagonal(n, constant(0), constant(1)));
  add("Wilkinson", tridiagonal(
                       n, [&](double i) { return std::abs(i - last / 2); }, constant(1)));
  for (double const glue : {1e-3, 1e-7, 1e-14})
    add("glued Wilkinson", tridiagonal(
                               n, [](double i) { return std::abs(std::fmod(i, 21) - 10); },
                               [&](double i) { return std::fmod(i, 21) == 20 ? glue : 1.0; }));
  add("diagonal", tridiagonal(
                      n, [](double i) { return std::fmod(7 * i, 11) - 5; }, constant(0)));
  add("nearly diagonal", tridiagonal(
                             n, [](double i) { return std::fmod(i, 3); }, constant(1e-15)));
  add("arrow", test::generate(n, n, [](index_t i, index_t j) {
        return i == j ? static_cast<double>(i) : i == 0 || j == 0 ? 1.0 : 0.0;
      }));
  add("Hilbert", test::generate(n, n, [](index_t i, index_t j) { return 1.0 / static_cast<double>(i + j + 1); }));
  host const s = symmetric(n, 5);
  for (double const scale : {1e-300, 1e-150, 1e-60, 1e100, 1e150, 1e304}) add("scaled", scale * s);
  for (bool const up : {false, true})
    add("graded", test::generate(n, n, [&](index_t i, index_t j) {
          return std::pow(10.0, -150.0 * static_cast<double>(up ? 2 * (n - 1) - i - j : i + j) / (last + 1)) * s(i, j);
        }));
  add("equal columns", gram_of(test::generate(n, n, [&](index_t i, index_t j) { return s(i, j / 2); })));
  return all;
}

}  // namespace

TEST_CASE("eigh: values, residuals and orthogonality are rounding, whatever the matrix", "[backend]") {
  for (index_t const n : {1, 2, 3, 5, 31, 32, 33, 64, 65, 200})
    for (auto const& [name, s] : structured(n)) {
      check(s, (n + 3) / 4, name);
      if (n < 100) check(s, n, name);
    }
}

TEST_CASE("eigh: every number of vectors, and columns that lie apart", "[backend]") {
  host const s = symmetric(37, 6), g = gram_of(test::random(40, 37, 7));
  for (index_t k = 1; k <= 37; ++k) {
    check(s, k, "random", k % 5);
    check(g, k, "Gram", k % 3);
  }
}

TEST_CASE("eigh: many panels", "[backend]") {
  host const s = symmetric(640, 8);
  check(s, 256, "random", 8);
  check(gram_of(test::random(100, 320, 9)), 107, "Gram of low rank");
}

TEST_CASE("eigh: small matrices of every kind of entry", "[backend]") {
  // A sweep: entries from few values, so that repeated values, zeros and exact ties are the rule.
  int wrong = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    auto const n = static_cast<index_t>(2 + seed % 17);
    host s(n, n);
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i <= j; ++i) {
        double const u = random_uniform({seed, 3}, static_cast<std::uint64_t>(i + j * n));
        double const small = seed % 4 == 0 ? 1e-8 : seed % 4 == 1 ? 1e-16 : 0.0;
        s(i, j) = s(j, i) = u < 0.5 ? small : u < 0.75 ? 1.0 : -1.0;
      }
    wrong += !eigh_errors(s, 1 + static_cast<index_t>(seed) % n).right();
  }
  CHECK(wrong == 0);
}

TEST_CASE("eigh refuses what is not finite", "[backend]") {
  eigen::packing memory;
  for (double const bad :
       {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()})
    for (index_t const n : {1, 2, 20})
      for (index_t const at : {index_t{0}, n - 1}) {
        host s = symmetric(n, 9);
        std::vector<double> values(static_cast<std::size_t>(n));
        s(at, at) = bad;
        CHECK_FALSE(eigen::eigh<double>(col_major(s.data.data(), n, n), 1, col_major(values.data(), n, 1), memory));
      }
}

TEST_CASE("vectors of a tridiagonal matrix, the safe way", "[backend]") {
  index_t const n = 83;
  host const t = tridiagonal(
      n, [](double i) { return std::abs(std::fmod(i, 21) - 10); },
      [](double i) { return std::fmod(i, 21) == 20 ? 1e-9 : 1.0; });
  host z = test::identity(n);
  std::vector<double> d(static_cast<std::size_t>(n)), e(static_cast<std::size_t>(n));
  for (index_t i = 0; i < n; ++i) {
    d[static_cast<std::size_t>(i)] = t(i, i);
    if (i + 1 < n) e[static_cast<std::size_t>(i)] = t(i, i + 1);
  }
  auto squares = e, values = d;
  for (double& x : squares) x *= x;
  REQUIRE(eigen::tridiagonal_vectors_safely(n, d.data(), e.data(), 10 * eps, col_major(z.data.data(), n, n)));
  REQUIRE(eigen::tridiagonal_values(n, values.data(), squares.data(), 100 * eps * eps));
  CHECK(test::distance(t * z, z * test::diagonal(n, n, d)) < 1e-12);
  CHECK(test::orthonormality(z) < 1e-12);
  std::sort(d.begin(), d.end());
  std::sort(values.begin(), values.end());
  for (std::size_t i = 0; i < d.size(); ++i) CHECK(std::abs(d[i] - values[i]) < 1e-13);
}

TEST_CASE("inverse iteration finds each vector by itself", "[backend]") {
  index_t const n = 60, count = eigen::inverse_iteration<double>::lanes;
  std::vector<double> d(n), beside(n), random(n + count), work(eigen::inverse_iteration<double>::elements(n)),
      values(count);
  for (index_t i = 0; i < n; ++i) {  // rows are exchanged here and there, and not elsewhere
    d[i] = random_normal({1, 1}, i);
    beside[i] = random_normal({1, 2}, i) * (i % 3 ? 3 : 0.3);
  }
  for (index_t i = 0; i < n + count; ++i) random[i] = random_uniform({1, 3}, i) - 0.5;
  host const t = tridiagonal(
      n, [&](double i) { return d[static_cast<std::size_t>(i)]; },
      [&](double i) { return beside[static_cast<std::size_t>(i)]; });
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const reference(
      Eigen::Map<Eigen::MatrixXd const>(t.data.data(), n, n));
  for (index_t first = 0; first + count <= n; first += count) {
    std::copy(reference.eigenvalues().data() + first, reference.eigenvalues().data() + first + count, values.begin());
    host v(n, count, 7.0);
    eigen::inverse_iteration<double>(d.data(), beside.data(), 4 * eps, work.data())
        .solve(n, values.data(), random.data(), count, v.data.data(), n);
    CHECK(test::distance(t * v, v * test::diagonal(count, count, values)) < 1e-13);
    for (index_t j = 0; j < count; ++j) CHECK(test::norm(test::columns(v, j, 1)) == Approx(1));
  }
}

TEST_CASE("reflections to tridiagonal form, and back", "[backend]") {
  for (index_t const n : {1, 2, 3, 9, 40, 70, 101}) {
    host const s = symmetric(n, 10);
    host reduced = s, q = test::identity(n);
    std::vector<double> d(static_cast<std::size_t>(n)), e(d), factors(d);
    eigen::packing memory, work;
    auto* const room = reinterpret_cast<double*>(work.at_least(eigen::tridiagonal_form<double>::bytes(n)));
    eigen::tridiagonal_form<double> const form(col_major(reduced.data.data(), n, n), d.data(), e.data(), factors.data(),
                                               1e-30, room, memory);
    form.apply(col_major(q.data.data(), n, n), memory);
    CHECK(test::orthonormality(q) < 1e-13);
    host const t = tridiagonal(
        n, [&](double i) { return d[static_cast<std::size_t>(i)]; },
        [&](double i) { return e[static_cast<std::size_t>(i)]; });
    CHECK(test::distance(q * t * test::transpose(q), s) < 1e-13 * test::norm(s));
  }
}
