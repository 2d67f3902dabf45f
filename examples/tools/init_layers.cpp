#include "init_layers.hpp"

#include <loraga/adapter/lora.hpp>
#include <loraga/adapter/lora_sb.hpp>
#include <loraga/gradient/sign_gradient.hpp>
#include <loraga/svd/eigen.hpp>

#include "initialisers.hpp"

// The only place that calls `initialise`.

namespace tools {

namespace {

/// Rounds a record to what its files will hold: the anchor must subtract just that.
void round_to(adapter_record& r, dtype type) {
  r.type = type;
  with_float_type(type, r.module, "dtype", [&]<class T>(T) {
    for (auto* m : {&r.a, &r.b, &r.start_a, &r.start_b})
      for (float& x : m->values) x = value_as<float>(static_cast<T>(x));
  });
}

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
  with_initialiser(o, t.form, t.number, [&](auto const& init) {
    layer_facts const facts{t.out, t.in, rank, scale, true};
    if constexpr (requires { init.check(facts); }) init.check(facts);
  });
} catch (shape_error const& e) {
  throw shape_error(std::string(e.what()) + "; choose a smaller --rank");
}

adapter_record start_layer(cpu& be, init_options const& o, target const& t, index_t rank, double scale,
                           layer_sources const& from, double& coverage) {
  auto record = with_initialiser(o, t.form, t.number, [&]<class I>(I const& init) {
    return layer_start<I>(be, o, t, rank, scale).run(init, from, coverage);
  });
  round_to(record, o.type);
  return record;
}

}  // namespace tools
