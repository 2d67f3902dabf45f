#include "init_layers.hpp"

#include <loraga/adapter/lora.hpp>
#include <loraga/adapter/lora_sb.hpp>
#include <loraga/diagnostics/spectrum.hpp>
#include <loraga/gradient/sign_gradient.hpp>
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
#include <loraga/svd/eigen.hpp>

// The only place that calls `initialise`.

namespace tools {

namespace {

/// f(initialiser): its random numbers are this layer's own. LoRA's start of an embedding is PEFT's for one.
template <class F>
decltype(auto) with_initialiser(init_options const& o, target const& t, F&& f) {
  using enum start_method;
  std::uint64_t const seed = o.seed + t.number;
  bool const plain = o.method == lora || o.method == gaussian;
  if (plain && t.form == layer_form::embedding) return f(embedding_init{seed});
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

/// Rounds a record to what its files will hold: the anchor must subtract just that.
void round_to(adapter_record& r, dtype type) {
  r.type = type;
  with_float_type(type, r.module, "dtype", [&]<class T>(T) {
    for (auto* m : {&r.a, &r.b, &r.start_a, &r.start_b})
      for (float& x : m->values) x = value_as<float>(static_cast<T>(x));
  });
}

/// Whether an initialiser needs an N.
template <class I, class N>
constexpr bool needs = []<class... M>(std::tuple<M...>*) {
  return (std::is_same_v<M, N> || ...);
}(static_cast<detail::needs_t<I>*>(nullptr));

template <class I>
class layer_start {
  using weight_view = matrix_view<float const, host_space>;
  static constexpr bool of_signs = std::is_same_v<I, lora_sb_init>;
  using adapter_type = std::conditional_t<of_signs, lora_sb<float, cpu>, lora<float, cpu>>;
  using gradient_type = std::conditional_t<of_signs, sign_gradient<cpu>, dense_gradient<cpu>>;
  cpu& be_;
  init_options const& o_;
  target const& t_;
  adapter_type adapter_;

 public:
  layer_start(cpu& be, init_options const& o, target const& t, index_t rank, double scale)
      : be_(be), o_(o), t_(t), adapter_(be, t.out, t.in, rank, constant_scaling{scale}) {}

  /// The started adapter; LoRA-SB's as the LoRA it is. `coverage` is set where something was measured.
  adapter_record run(I const& init, layer_sources const& from, double& coverage) {
    automatic_svd const svd{o_.quality, o_.seed};
    matrix<float, cpu> memory;
    auto const weight = [&] { return weight_of(be_, from.base, t_, memory); };
    if constexpr (needs<I, gradient_triplets>) {
      auto const g = mean_gradient<gradient_type>(be_, *from.gradients, t_, from.gradient);
      begin(init, wants_weight(init) ? weight() : weight_view{}, &g, measured_svd<automatic_svd>{svd, &coverage});
    } else if constexpr (needs<I, whole_gradient>) {
      auto const g = mean_gradient<gradient_type>(be_, *from.gradients, t_, from.gradient);
      begin(init, weight_view{}, &g, svd);
    } else if constexpr (std::is_same_v<I, corda_init>) {
      auto const x = statistics(be_, *from.inputs, t_, from.input, {.by_peak = true});
      if (init.part == corda_part::ipm) begin(init, weight(), &x, svd);
      else begin(init, weight(), &x, eigen_svd{});  // the far end of a wide spectrum
    } else if constexpr (needs<I, input_directions>) {
      auto const x = statistics(be_, *from.inputs, t_, from.input);
      begin(init, weight_view{}, &x, measured_svd<automatic_svd>{svd, &coverage, true});
    } else if constexpr (std::is_same_v<I, milora_init>) {
      begin(init, weight(), nothing, gram{});  // all triplets
    } else if constexpr (needs<I, weight_triplets>) {
      begin(init, weight(), nothing, measured_svd<automatic_svd>{svd, &coverage});
    } else {
      begin(init, needs<I, whole_weight> ? weight() : weight_view{}, nothing, svd);
    }
    from.base.forget(t_.place.weight);
    auto record = take_record(be_, adapter_, t_.module);
    record.layer = {t_.form};
    return record;
  }

 private:
  static constexpr no_source const* nothing = nullptr;

  bool wants_weight(I const& init) const {
    if constexpr (needs<I, optional_weight>) {
      auto const all = init.needs({t_.out, t_.in, adapter_.rank(), adapter_.scale()});
      return std::get<optional_weight>(all).wanted || std::get<optional_weight_triplets>(all).count > 0;
    } else return false;
  }

  template <class G, class Svd>
  void begin(I const& init, weight_view w, G const* source, Svd const& svd) {
    std::array<layer<adapter_type, weight_view, G>, 1> const layers{{{&adapter_, w, source, t_.module}}};
    if constexpr (I::starts == start_kind::ahead) initialise(be_, layers, init, svd, no_anchor{});
    else initialise(be_, layers, init, svd, frozen_pair_anchor{});
  }
};

}  // namespace

void check_start(init_options const& o, target const& t, index_t rank, double scale) try {
  with_initialiser(o, t, [&](auto const& init) {
    layer_facts const facts{t.out, t.in, rank, scale, true};
    if constexpr (requires { init.check(facts); }) init.check(facts);
  });
} catch (shape_error const& e) {
  throw shape_error(std::string(e.what()) + "; choose a smaller --rank");
}

adapter_record start_layer(cpu& be, init_options const& o, target const& t, index_t rank, double scale,
                           layer_sources const& from, double& coverage) {
  auto record = with_initialiser(
      o, t, [&]<class I>(I const& init) { return layer_start<I>(be, o, t, rank, scale).run(init, from, coverage); });
  round_to(record, o.type);
  return record;
}

}  // namespace tools
