#pragma once
#include <torch/nn/modules/linear.h>

#include <loraga/torch/adapted_layer.hpp>
#include <loraga/torch/linear_passes.hpp>

namespace loraga::libtorch {

/// torch::nn::Linear with a low-rank adapter: y = base(x) + s*B*A*drop(x). See adapter_module for what it can do, and
/// lora_linear for its holder.
/// errors  from `forward` those of the adapter's passes, and state_error for an adapter that was never started
template <Element T = float, class B = cpu, Element U = T>
class lora_linear_impl : public detail::adapted_layer<detail::linear_passes<T, B, U>> {
  using layer = detail::adapted_layer<detail::linear_passes<T, B, U>>;

 public:
  torch::nn::Linear base{nullptr};  ///< the layer that was there

  /// errors  value_error for a base of another type than U, if rank < 1, or dropout is outside [0, 1)
  template <Scaling S = rank_stable_scaling>
  explicit lora_linear_impl(torch::nn::Linear linear, index_t rank = 8, S const& scaling = {},
                            lora_options options = {}, std::shared_ptr<runtime<B>> on = usual_runtime<B>())
      : layer("lora_linear", linear->options.out_features(), linear->options.in_features(), rank,
              scaling.scale(linear->options.out_features(), linear->options.in_features(), rank), options,
              layer::checked_device(linear->weight, "lora_linear"), std::move(on),
              [](auto adapter) { return detail::linear_passes<T, B, U>(std::move(adapter)); }) {
    base = this->register_module("base", linear);
    this->freeze(*base);
  }

  /// shapes  x [..., in], y [..., out]
  at::Tensor forward(at::Tensor const& x) { return this->through(x, base->forward(x)); }

 private:
  at::Tensor weight() const override { return base->weight; }
  layer_kind kind() const override { return {}; }
};

/// The holder of lora_linear_impl, as torch's modules have one. Build it around a Linear that is there:
///   fc1 = register_module("fc1", lora_linear<>(linear, 8, rank_stable_scaling{.alpha = 16}));
template <Element T = float, class B = cpu, Element U = T>
class lora_linear : public torch::nn::ModuleHolder<lora_linear_impl<T, B, U>> {
  using impl = lora_linear_impl<T, B, U>;

 public:
  using torch::nn::ModuleHolder<impl>::ModuleHolder;
  /// errors  as the module's own
  template <Scaling S = rank_stable_scaling>
  explicit lora_linear(torch::nn::Linear linear, index_t rank = 8, S const& scaling = {}, lora_options options = {},
                       std::shared_ptr<runtime<B>> on = usual_runtime<B>())
      : torch::nn::ModuleHolder<impl>(std::make_shared<impl>(linear, rank, scaling, options, std::move(on))) {}
};

}  // namespace loraga::libtorch
