#pragma once
#include <cmath>
#include <loraga/concepts.hpp>

namespace loraga {

/// LoRA: s = alpha/r.  source arXiv:2106.09685
struct classic_scaling {
  double alpha = 16;
  double scale(index_t, index_t, index_t rank) const {
    require_value(is_finite(alpha), alpha, "classic_scaling", "alpha", "a finite number");
    return alpha / static_cast<double>(rank);
  }
};

/// rsLoRA, and the scaling LoRA-GA is derived for: s = alpha/sqrt(r).  source arXiv:2312.03732
struct rank_stable_scaling {
  double alpha = 16;
  double scale(index_t, index_t, index_t rank) const {
    require_value(is_finite(alpha), alpha, "rank_stable_scaling", "alpha", "a finite number");
    return alpha / std::sqrt(static_cast<double>(rank));
  }
};

/// AdaLoRA's in huggingface/peft: s = alpha/(r + 1e-5), r the rank before pruning.
struct adalora_scaling {
  static constexpr double epsilon = 1e-5;
  double alpha = 16;
  double scale(index_t, index_t, index_t rank) const {
    require_value(is_finite(alpha), alpha, "adalora_scaling", "alpha", "a finite number");
    return alpha / (static_cast<double>(rank) + epsilon);
  }
};

/// s given as it is.
struct constant_scaling {
  double value = 1;
  double scale(index_t, index_t, index_t) const {
    require_value(is_finite(value), value, "constant_scaling", "value", "a finite number");
    return value;
  }
};

}  // namespace loraga
