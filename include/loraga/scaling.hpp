#pragma once
#include <cmath>
#include <loraga/concepts.hpp>

namespace loraga {

/// LoRA's scale.
/// math    s = alpha/r
/// source  arXiv:2106.09685
struct classic_scaling {
  double alpha = 16;
  double scale(index_t, index_t, index_t rank) const {
    require_value(is_finite(alpha), alpha, "classic_scaling", "alpha", "a finite number");
    return alpha / static_cast<double>(rank);
  }
};

/// rsLoRA's scale, for which LoRA-GA is derived.
/// math    s = alpha/sqrt(r)
/// source  arXiv:2312.03732
struct rank_stable_scaling {
  double alpha = 16;
  double scale(index_t, index_t, index_t rank) const {
    require_value(is_finite(alpha), alpha, "rank_stable_scaling", "alpha", "a finite number");
    return alpha / std::sqrt(static_cast<double>(rank));
  }
};

/// AdaLoRA's scale, as huggingface/peft has it.
/// math    s = alpha/(r + 1e-5), r the rank before pruning
/// source  github.com/huggingface/peft
struct adalora_scaling {
  static constexpr double epsilon = 1e-5;  ///< added to the rank
  double alpha = 16;
  double scale(index_t, index_t, index_t rank) const {
    require_value(is_finite(alpha), alpha, "adalora_scaling", "alpha", "a finite number");
    return alpha / (static_cast<double>(rank) + epsilon);
  }
};

/// A scale that is given as it is.
/// math    s = value
struct constant_scaling {
  double value = 1;  ///< s
  double scale(index_t, index_t, index_t) const {
    require_value(is_finite(value), value, "constant_scaling", "value", "a finite number");
    return value;
  }
};

}  // namespace loraga
