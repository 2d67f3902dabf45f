#pragma once
#include <loraga/adapter/lora.hpp>
#include <loraga/adapter/lora_sb.hpp>
#include <loraga/gradient/sign_gradient.hpp>
#include <loraga/svd/eigen.hpp>
#include <tools/initialisers.hpp>

#include "start.hpp"

// One layer's start in T, by any initialiser. Compiled once for each T (start_float.cpp, start_double.cpp).

namespace python {

/// What an adapter writes A and B through: LoRA-SB's B is B*R.
template <class T>
struct factor_writer {
  cpu& be;
  started_layer<T>& to;

  template <class V>
  static std::vector<T> by_rows(cpu& be, V from) {
    return read_all(be, from.transposed());
  }
  void a(auto from) const { to.a = by_rows(be, from); }
  void b(auto from) const { to.b = by_rows(be, from); }
};

template <class T, class I>
class layer_start {
  static constexpr bool of_signs = std::is_same_v<I, lora_sb_init>;
  using adapter_type = std::conditional_t<of_signs, lora_sb<T, cpu>, lora<T, cpu>>;
  using weight_view = reading<T>;
  cpu& be_;
  tools::init_options const& o_;
  layer_request const& from_;
  started_layer<T> result_;
  matrix<T, cpu> wide_;  // W, where it is of a narrower type
  adapter_type adapter_;

 public:
  layer_start(cpu& be, tools::init_options const& o, layer_request const& from)
      : be_(be), o_(o), from_(from), adapter_(be, from.out, from.in, from.rank, constant_scaling{from.scale}) {}

  started_layer<T> run(I const& init) {
    automatic_svd const svd{o_.quality, o_.seed};
    tools::measured_svd<automatic_svd> const measured{svd, &result_.coverage};
    if constexpr (tools::needs<I, gradient_triplets>) {
      auto const w = wants_weight(init) ? weight() : weight_view{};
      with_gradient([&](auto const& g) { begin(init, w, &g, measured); });
    } else if constexpr (tools::needs<I, whole_gradient>) {
      with_gradient([&](auto const& g) { begin(init, weight_view{}, &g, svd); });
    } else if constexpr (std::is_same_v<I, corda_init>) {
      with_inputs([&](auto const& x) {
        if (init.part == corda_part::ipm) begin(init, weight(), &x, svd);
        else begin(init, weight(), &x, eigen_svd{});  // the far end of a wide spectrum
      });
    } else if constexpr (tools::needs<I, input_directions>) {
      tools::measured_svd<automatic_svd> const of_variance{svd, &result_.coverage, true};
      with_inputs([&](auto const& x) { begin(init, weight_view{}, &x, of_variance); });
    } else if constexpr (std::is_same_v<I, milora_init>) {
      begin(init, weight(), nothing, gram{});  // all triplets
    } else if constexpr (tools::needs<I, weight_triplets>) {
      begin(init, weight(), nothing, measured);
    } else {
      begin(init, tools::needs<I, whole_weight> ? weight() : weight_view{}, nothing, svd);
    }
    factor_writer<T> const writer{be_, result_};
    if constexpr (requires { std::as_const(adapter_).write_record(be_, writer); })
      std::as_const(adapter_).write_record(be_, writer);
    else writer.a(std::as_const(adapter_).a()), writer.b(std::as_const(adapter_).b());
    return std::move(result_);
  }

 private:
  static constexpr no_source const* nothing = nullptr;

  bool wants_weight(I const& init) const {
    if constexpr (tools::needs<I, optional_weight>) {
      auto const all = init.needs({from_.out, from_.in, from_.rank, from_.scale});
      return std::get<optional_weight>(all).wanted || std::get<optional_weight_triplets>(all).count > 0;
    } else return false;
  }
  weight_view weight() {
    if (!from_.weight)
      raise<value_error>("start(" + from_.module + ")", "W", "missing",
                         std::string("the layer's weight, which ") + o_.facts().name + " reads");
    return from_.weight->template as<T>(be_, wide_, "start(" + from_.module + ")", "W");
  }
  template <class F>
  void with_gradient(F const& f) {
    std::lock_guard const mine(from_.gradient->in_use);
    auto const& held = from_.gradient->held();
    if constexpr (of_signs) {  // of the whole mean
      auto const& whole = std::get<dense_gradient<cpu, T>>(held);
      sign_gradient<cpu, T> signs(be_, from_.out, from_.in);
      signs.gradient().merge(be_, whole);
      f(signs);
    } else if (auto const* dense = std::get_if<dense_gradient<cpu, T>>(&held)) {
      f(*dense);
    } else {
      f(std::get<incremental_gradient<cpu, T>>(held));
    }
  }
  template <class F>
  void with_inputs(F const& f) {
    std::lock_guard const mine(from_.statistics->in_use);
    f(std::get<input_statistics<cpu, T>>(from_.statistics->held()));
  }

  template <class G, class Svd>
  void begin(I const& init, weight_view w, G const* source, Svd const& svd) {
    std::array<layer<adapter_type, weight_view, G>, 1> const layers{{{&adapter_, w, source, from_.module}}};
    if constexpr (I::starts == start_kind::ahead) initialise(be_, layers, init, svd, no_anchor{});
    else initialise(be_, layers, init, svd, frozen_pair_anchor{});
  }
};

template <class T>
started_layer<T> start_layer(cpu& be, tools::init_options const& o, layer_request const& from) {
  return tools::with_initialiser(o, layer_form::linear, from.number,
                                 [&]<class I>(I const& init) { return layer_start<T, I>(be, o, from).run(init); });
}

}  // namespace python
