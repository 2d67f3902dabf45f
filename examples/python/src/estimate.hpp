#pragma once
#include <algorithm>
#include <loraga/gradient/incremental.hpp>
#include <loraga/gradient/input_statistics.hpp>
#include <mutex>

#include "arrays.hpp"

// What Python keeps of a layer while its micro-batches go by.

namespace python {

/// How an Estimate keeps the mean gradient.
struct estimate_request {
  index_t out, in, rank, width;
  int power_steps;
  bool dense, in_double;
  std::uint64_t seed;

  /// How many it will keep.
  double numbers() const {
    auto const m = static_cast<double>(out), n = static_cast<double>(in);
    if (dense) return m * n;
    return (m + n) * std::min({static_cast<double>(width > 0 ? width : 4 * rank), m, n});
  }
};

/// The mean gradient of one layer. Calls from several threads take turns.
class estimate {
 public:
  using kinds = std::variant<incremental_gradient<cpu, float>, incremental_gradient<cpu, double>,
                             dense_gradient<cpu, float>, dense_gradient<cpu, double>>;

 private:
  kinds held_;
  static kinds make(estimate_request const& r);

 public:
  mutable std::mutex in_use;  ///< who works with `held`, holds it, and no GIL
  explicit estimate(estimate_request const& r) : held_(make(r)) {}
  kinds& held() { return held_; }
  kinds const& held() const { return held_; }

  index_t out() const {
    return std::visit([](auto const& g) { return g.rows(); }, held_);
  }
  index_t in() const {
    return std::visit([](auto const& g) { return g.cols(); }, held_);
  }
  index_t width() const {
    return std::visit(
        [](auto const& g) {
          if constexpr (requires { g.width(); }) return g.width();
          else return std::min(g.rows(), g.cols());
        },
        held_);
  }
  bool dense() const { return held_.index() >= 2; }
  bool in_double() const { return held_.index() % 2 == 1; }
};

/// Mean and scatter of one layer's inputs. Calls from several threads take turns.
class inputs {
 public:
  using kinds = std::variant<input_statistics<cpu, float>, input_statistics<cpu, double>>;

 private:
  kinds held_;
  static kinds make(index_t features, bool by_peak, bool in_double);

 public:
  mutable std::mutex in_use;  ///< as estimate::in_use
  inputs(index_t features, bool by_peak, bool in_double) : held_(make(features, by_peak, in_double)) {}
  kinds& held() { return held_; }
  kinds const& held() const { return held_; }

  index_t features() const {
    return std::visit([](auto const& x) { return x.features(); }, held_);
  }
  bool in_double() const { return held_.index() == 1; }
};

}  // namespace python
