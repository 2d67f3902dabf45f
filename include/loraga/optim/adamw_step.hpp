#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <loraga/concepts.hpp>
#include <map>

// What a step of AdamW is made of, as kernels see it.

namespace loraga {

/// Settings that the parameters of one group share. Weight decay follows the rate, as in PyTorch.
struct adamw_group {
  double learning_rate = 1e-3;  ///< the group's rate is learning_rate*ratio*schedule
  double ratio = 1;             ///< LoRA+'s, 1 for all but B
  double beta1 = 0.9;           ///< decay of the first moment
  double beta2 = 0.999;         ///< decay of the second moment
  double epsilon = 1e-8;        ///< added to the root of the second moment
  double weight_decay = 0;      ///< a share of the value per step, times the rate

  bool operator==(adamw_group const&) const = default;
};

namespace detail {

/// What one step needs of a group, computed on the device so that a captured step can be replayed. C is the type of the
/// moments.
template <class C>
struct adamw_constants {
  C step_size, root_correction, beta1, rest1, beta2, rest2, epsilon, keep;
  double clip;  // what gradients are multiplied by, 1 where none are clipped
};

/// Constants of some groups, and the tick of the clock with the last of them. One thread does it all: the clock may not
/// tick before the last group has read it, and groups are few.
template <class C, class S, class Clock, class Norm>
struct adamw_prepare {
  static constexpr index_t most = 16;
  S schedule;
  Clock clock;  // steps done
  Norm norm;    // the gradients' joint norm, where they are clipped
  double limit;
  bool clips, last;
  index_t count = 0;
  adamw_group group[most];
  adamw_constants<C>* out[most];
  LORAGA_HD void operator()(index_t, index_t) const {
    double const t = static_cast<double>(clock(0, 0) + 1);
    double const factor = schedule.factor(clock(0, 0));
    double const clip = clips && norm(0, 0) > limit ? limit / norm(0, 0) : 1.0;
    for (index_t k = 0; k < count; ++k) {
      adamw_group const& g = group[k];
      double const rate = g.learning_rate * g.ratio * factor;
      adamw_constants<C>& c = *out[k];
      c.step_size = static_cast<C>(rate / (1 - pow(g.beta1, t)));
      c.root_correction = static_cast<C>(sqrt(1 - pow(g.beta2, t)));
      c.beta1 = static_cast<C>(g.beta1);
      c.rest1 = static_cast<C>(1 - g.beta1);
      c.beta2 = static_cast<C>(g.beta2);
      c.rest2 = static_cast<C>(1 - g.beta2);
      c.epsilon = static_cast<C>(g.epsilon);
      c.keep = static_cast<C>(1 - rate * g.weight_decay);
      c.clip = clip;
    }
    if (last) ++clock(0, 0);
  }
};

/// A matrix without gaps, element after element: most parameters are, and need no strides.
template <class T>
struct gapless {
  using value_type = T;
  T* data;
  LORAGA_HD T& operator()(index_t e, index_t) const { return data[e]; }

  /// Whether a view's elements lie so, column by column.
  template <class V>
  static bool fits(V const& v) {
    return (v.row_stride == 1 || v.rows <= 1) && (v.col_stride == v.rows || v.cols <= 1);
  }
};

/// A parameter as steps see it; V shows values and C numbers of the compute type.
template <class V, class C>
struct adamw_record {
  adamw_constants<typename C::value_type> const* constants;
  V value;
  C master;  // the value itself unless values are stored in 16 bit
  C gradient, first, second;
};

/// One AdamW step of one element of a parameter.
template <class V, class C>
struct adamw_element {
  using T = typename C::value_type;
  adamw_constants<T> k;
  adamw_record<V, C> r;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    T g = r.gradient(i, j);
    if (k.clip != 1) g = static_cast<T>(g * k.clip);
    T const m = k.beta1 * r.first(i, j) + k.rest1 * g;
    T const v = k.beta2 * r.second(i, j) + k.rest2 * g * g;
    r.first(i, j) = m;
    r.second(i, j) = v;
    T const denominator = std::sqrt(v) / k.root_correction + k.epsilon;
    T const x = r.master(i, j) * k.keep - k.step_size * m / denominator;
    r.master(i, j) = x;
    if constexpr (!std::is_same_v<V, C>) r.value(i, j) = static_cast<typename V::value_type>(x);
  }
};
struct adamw_step {
  template <class V, class C>
  LORAGA_HD adamw_element<V, C> operator()(adamw_record<V, C> const& r) const {
    return {*r.constants, r};
  }
};

/// Finds out whether a new view overlaps one of many.
class footprints {
  std::multimap<std::uintptr_t, footprint> by_start_;
  std::uintptr_t longest_ = 0;

  static std::uintptr_t address(char const* p) { return reinterpret_cast<std::uintptr_t>(p); }

 public:
  bool overlaps(footprint const& f) const {
    if (f.rows * f.cols == 0) return false;
    auto const start = address(f.data);
    auto const from = by_start_.lower_bound(start - std::min(start, longest_));
    auto const to = by_start_.lower_bound(address(f.end()));
    return std::any_of(from, to, [&](auto const& other) { return overlap(other.second, f); });
  }
  void add(footprint const& f) {
    if (f.rows * f.cols == 0) return;
    by_start_.emplace(address(f.data), f);
    longest_ = std::max(longest_, address(f.end()) - address(f.data));
  }
};

}  // namespace detail

}  // namespace loraga
