// Structured matrices through every SVD method and type, each answer judged in double: svd COUNT FIRST RESULT.json.
// Each matrix is a function of its number: `svd 1 NUMBER -` repeats one. See run.sh.
#include <Eigen/Eigenvalues>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <loraga/cpu.hpp>
#include <loraga/svd/eigen.hpp>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "../support/backend.hpp"
#include "../svd/judge.hpp"

using namespace loraga;

namespace {

struct record {
  long answers = 0, flagged = 0, failed = 0;
  test::judgement worst;
  double flat_loss = 0;  // of flat matrices; `worst.loss` is that of the others
};

/// What was seen, by method and type; shared by the threads.
class results {
  std::mutex mutex_;
  std::map<std::string, record> records_;
  std::map<std::string, long> families_;
  std::vector<std::string> failures_;

 public:
  void note_matrix(std::string const& family) {
    std::lock_guard const lock(mutex_);
    ++families_[family];
  }
  void note(std::string const& method, std::string const& which, int flags, std::string const& wrong,
            test::judgement const& j, bool flat) {
    std::lock_guard const lock(mutex_);
    auto& r = records_[method];
    ++r.answers;
    r.flagged += flags != 0;
    r.failed += flags == 0 && !wrong.empty();
    if (flags != 0) failures_.push_back(method + ": " + which + ": " + describe_flags(flags));
    else if (!wrong.empty()) failures_.push_back(method + ": " + which + ": " + wrong);
    if (flags != 0) return;
    auto const keep = [](double& to, double x) { to = std::max(to, x); };
    for (auto const part : {&test::judgement::orthonormality, &test::judgement::excess, &test::judgement::short_side,
                            &test::judgement::long_side})
      keep(r.worst.*part, j.*part);
    keep(flat ? r.flat_loss : r.worst.loss, j.loss);
  }
  std::vector<std::string> const& failures() const { return failures_; }
  nlohmann::ordered_json json() const {
    auto const short_number = [](double x) {
      char text[32];
      std::snprintf(text, sizeof text, "%.1e", x);
      return std::strtod(text, nullptr);
    };
    nlohmann::ordered_json all;
    all["matrices_by_family"] = families_;
    for (auto const& [name, r] : records_)
      all["methods"][name] = {{"answers", r.answers},
                              {"flagged", r.flagged},
                              {"failed", r.failed},
                              {"orthonormality", short_number(r.worst.orthonormality)},
                              {"excess", short_number(r.worst.excess)},
                              {"loss", short_number(r.worst.loss)},
                              {"loss_where_flat", short_number(r.flat_loss)},
                              {"residual_short_side", short_number(r.worst.short_side)},
                              {"residual_long_side", short_number(r.worst.long_side)}};
    all["failures"] = failures_;
    return all;
  }
  void print() const {
    std::printf("%-24s %8s %7s %6s %9s %9s %9s %9s %9s %9s\n", "method", "answers", "flagged", "failed", "orthonorm",
                "excess", "loss", "flat loss", "short", "long");
    for (auto const& [name, r] : records_)
      std::printf("%-24s %8ld %7ld %6ld %9.1e %9.1e %9.1e %9.1e %9.1e %9.1e\n", name.c_str(), r.answers, r.flagged,
                  r.failed, r.worst.orthonormality, r.worst.excess, r.worst.loss, r.flat_loss, r.worst.short_side,
                  r.worst.long_side);
    for (std::size_t i = 0; i < std::min<std::size_t>(failures_.size(), 40); ++i)
      std::printf("%s\n", failures_[i].c_str());
  }
};

/// A matrix as T holds it, times a power of two that brings it near 1, and its singular values.
struct stored_matrix {
  test::host a;
  int exponent;  // it is 2^exponent times as large
  std::vector<double> sigma;

  explicit stored_matrix(test::host stored) : a(std::move(stored)), exponent(std::ilogb(test::largest(a))) {
    for (double& x : a.data) x = std::ldexp(x, -exponent);
    Eigen::Map<Eigen::MatrixXd const> const m(a.data.data(), a.rows, a.cols);
    Eigen::MatrixXd const gram = a.rows <= a.cols ? Eigen::MatrixXd(m * m.transpose()) : m.transpose() * m;
    Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const eigen(gram, Eigen::EigenvaluesOnly);
    for (index_t i = gram.rows(); i-- > 0;) sigma.push_back(std::sqrt(std::max(0.0, eigen.eigenvalues()(i))));
  }
};

template <class T>
std::string type_name() {
  if (std::is_same_v<T, float>) return " float";
  if (std::is_same_v<T, double>) return " double";
  return std::is_same_v<T, bf16> ? " bf16" : " half";
}

template <class T>
void examine(cpu& be, results& seen, test::structured_matrix const& m, std::uint64_t number) {
  using C = compute_t<T>;
  auto a = test::upload<T>(be, m.a);
  auto const given = test::download(be, a.view());
  if (test::largest(given) == 0 || test::largest(given) == INFINITY) return;  // a scale that T does not have
  stored_matrix const stored(given);
  auto const& sigma = stored.sigma;
  bool const flat = test::is_flat(sigma);
  auto const look = [&](std::string const& method, double loss, auto const& result, bool left_exact) {
    auto got = test::download_triplets(be, result);
    for (double& s : got.s) s = std::ldexp(s, -stored.exponent);
    test::judgement j;
    auto const wrong = test::faults<C>(stored.a, sigma, got, loss, left_exact, j);
    seen.note(method + type_name<T>(),
              m.family + " number " + std::to_string(number) + ", " + shape_text(m.a.rows, m.a.cols) + " k " +
                  std::to_string(m.k),
              result.flags[0], wrong, j, flat);
  };
  auto const svd = [&](std::string const& name, double loss, auto const& method) {
    look(name, loss, test::factor(be, method, a, m.k), m.a.rows <= m.a.cols);
  };
  // Where nothing is promised for every matrix, the loss is noted only.
  svd("gram", 1e-5, gram{});
  svd("eigen_svd", 1e-5, eigen_svd{});
  svd("automatic balanced", test::promised_loss(sigma, false), automatic_svd{.seed = number});
  svd("automatic tight", test::promised_loss(sigma, true),
      automatic_svd{.quality = svd_quality::tight, .seed = number});
  svd("subspace", 1, subspace{.seed = number});
  svd("block_krylov", 1, block_krylov{.seed = number});
  svd("block_krylov wide", 1, block_krylov{std::max<index_t>(16, (m.k + 5) / 6), 6, number});
  svd("block_krylov narrow", 1, block_krylov{3, (m.k + 2) / 3 + 6, number});
  if constexpr (std::is_same_v<T, C>) {
    incremental_gradient<cpu, T> estimate(be, m.a.rows, m.a.cols, {.rank = m.k, .seed = number});
    estimate.add(be, a.view());
    look("incremental", 1, estimate.top(be, gram{}, m.k), true);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: svd COUNT FIRST RESULT.json (- for none)\n"), 2;
  std::uint64_t const count = std::strtoull(argv[1], nullptr, 10), first = std::strtoull(argv[2], nullptr, 10);
  results seen;
  std::atomic<std::uint64_t> done = 0;
  auto const began = std::chrono::steady_clock::now();
  auto const work = [&] {
    cpu be(1);
    for (std::uint64_t i; (i = done++) < count;) {
      auto const m = test::structured(first + i);
      seen.note_matrix(m.family);
      examine<float>(be, seen, m, first + i);
      examine<double>(be, seen, m, first + i);
      if (i % 2) examine<bf16>(be, seen, m, first + i);
      else examine<fp16>(be, seen, m, first + i);
      if (i % 1000 == 999) std::fprintf(stderr, "%llu of %llu matrices\n", i + 1ull, count + 0ull);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(work);
  for (auto& t : threads) t.join();
  seen.print();
  if (std::string(argv[3]) != "-") {
    nlohmann::ordered_json all{{"command", "bash tests/properties/run.sh"}, {"matrices", count}, {"first", first}};
    all["seconds"] = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - began).count();
    all.update(seen.json());
    std::ofstream(argv[3]) << all.dump(1) << '\n';
  }
  return seen.failures().empty() ? 0 : 1;
}
