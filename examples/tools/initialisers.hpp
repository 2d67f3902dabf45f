#pragma once
#include <loraga/diagnostics/spectrum.hpp>
#include <loraga/init/embedding.hpp>
#include <loraga/init/eva.hpp>
#include <loraga/init/gaussian.hpp>
#include <loraga/init/gaussian_pair.hpp>
#include <loraga/init/gora.hpp>
#include <loraga/init/kaiming.hpp>
#include <loraga/init/lora_one.hpp>
#include <loraga/init/lora_sb.hpp>
#include <loraga/init/milora.hpp>
#include <loraga/init/olora.hpp>
#include <loraga/init/orthogonal.hpp>
#include <loraga/init/pissa.hpp>
#include <loraga/initialise.hpp>
#include <loraga/io/adapter_record.hpp>

#include "init_options.hpp"

// From the name of a start to the library's initialiser, and what it needs.

namespace tools {

/// f(initialiser): its random numbers are this layer's own, by its number. LoRA's start of an embedding is PEFT's for
/// one.
template <class F>
decltype(auto) with_initialiser(init_options const& o, layer_form form, std::uint64_t number, F&& f) {
  using enum start_method;
  std::uint64_t const seed = o.seed + number;
  bool const plain = o.method == lora || o.method == gaussian;
  if (plain && form == layer_form::embedding) return f(embedding_init{seed});
  switch (o.method) {
    case lora:
      return f(kaiming_init{seed});
    case gaussian:
      return f(gaussian_init{seed});
    case orthogonal:
      return f(orthogonal_init{seed});
    case gaussian_pair:
      return f(gaussian_pair_init{o.pair_is_stable(), o.gamma.value_or(gaussian_pair_init{}.gamma), seed});
    case pissa:
      return f(pissa_init{});
    case milora:
      return f(milora_init{});
    case olora:
      return f(olora_init{});
    case corda:
      return f(corda_init{o.part.value_or(corda_part::ipm)});
    case eva:
      return f(eva_init{});
    case lora_one:
      return f(lora_one_init{o.gamma.value_or(lora_one_init{}.gamma)});
    case gora:
      return f(gora_init{o.step.value_or(gora_init{}.step), seed});
    case lora_sb:
      return f(lora_sb_init{o.step.value_or(lora_sb_init{}.step)});
    default:
      return f(lora_ga_init{o.gamma.value_or(lora_ga_init{}.gamma), o.directions.value_or(ga_directions::ArB2r),
                            o.scale.value_or(ga_scale::stable), o.clip, seed});
  }
}

/// An SVD that notes how much of the first matrix it was asked for: LoRA-GA's gradient comes first.
template <class Method>
struct measured_svd {
  Method method;
  double* coverage;
  bool of_variance = false;  ///< the matrix is a scatter: shares of its trace, not of its energy
  template <Backend B, class T>
  auto top(B& be, view_list<T, typename B::space> a, index_t k) const {
    auto result = method.top(be, a, k);
    if (!std::isnan(*coverage) || result.flags[0] != svd_usable) return result;
    if (!of_variance) {
      *coverage = loraga::coverage(be, result, 0, k);
      return result;
    }
    scratch<B> temporary(be);
    auto const whole = temporary.template matrix<double>(1, 1);
    trace(be, a[0], whole);
    double sum = 0;
    for (auto const s : read_all(be, result[0].s)) sum += static_cast<double>(s);
    *coverage = sum / read_scalar(be, whole);
    return result;
  }
};

/// Whether an initialiser needs an N.
template <class I, class N>
constexpr bool needs = []<class... M>(std::tuple<M...>*) {
  return (std::is_same_v<M, N> || ...);
}(static_cast<detail::needs_t<I>*>(nullptr));

}  // namespace tools
