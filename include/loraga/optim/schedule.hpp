#pragma once
#include <cmath>
#include <loraga/concepts.hpp>

namespace loraga {

/// The rate as it is.
/// math    1
struct constant_schedule {
  void check() const {}
  LORAGA_HD double factor(index_t) const { return 1; }
};

/// Linear warm-up to 1, then half a cosine down to `floor` at step `total`.
/// math    t < warmup: (t+1)/warmup; else floor + (1-floor)*(1 + cos(pi*(t-warmup)/(total-warmup)))/2
/// errors  value_error unless 0 <= warmup <= total, total >= 1 and 0 <= floor <= 1
struct cosine_schedule {
  index_t total = 1;   ///< steps until the floor
  index_t warmup = 0;  ///< steps of linear warm-up
  double floor = 0;    ///< the factor from step `total` on
  void check() const {
    require_value(total >= 1, static_cast<double>(total), "cosine_schedule", "total", "at least 1");
    require_value(warmup >= 0 && warmup <= total, static_cast<double>(warmup), "cosine_schedule", "warmup",
                  "within 0..total");
    require_value(floor >= 0 && floor <= 1, floor, "cosine_schedule", "floor", "within 0..1");
  }
  LORAGA_HD double factor(index_t t) const {
    if (t < warmup) return static_cast<double>(t + 1) / static_cast<double>(warmup);
    if (t >= total) return floor;
    double const x = static_cast<double>(t - warmup) / static_cast<double>(total - warmup);
    return floor + (1 - floor) * (1 + cos(3.14159265358979323846 * x)) / 2;
  }
};

}  // namespace loraga
