#pragma once
#include <torch/nn/modules/conv.h>

#include <loraga/torch/adapted_layer.hpp>
#include <loraga/torch/convolution_passes.hpp>

namespace loraga::libtorch {

/// The geometry of a Conv2d.
/// errors  value_error for groups other than 1, a padding that is not of zeros, and "same" where the two sides differ
inline convolution_geometry geometry_of(torch::nn::detail::ConvNdOptions<2> const& o) {
  char const* const where = "lora_conv2d";
  require_value(o.groups() == 1, static_cast<double>(o.groups()), where, "groups", "1");
  // variants' functions are found by their argument: LibTorch 1.13 has variants of its own
  if (!holds_alternative<torch::enumtype::kZeros>(o.padding_mode()))
    raise<value_error>(where, "padding_mode", "not zeros", "zeros");
  auto const axis = [&](std::size_t i) {
    convolution_axis a{(*o.kernel_size())[i], (*o.stride())[i], 0, (*o.dilation())[i]};
    if (auto const* given = get_if<torch::ExpandingArray<2>>(&o.padding())) a.padding = (**given)[i];
    if (holds_alternative<torch::enumtype::kSame>(o.padding())) {
      index_t const both = a.dilation * (a.kernel - 1);
      if (both % 2 != 0) raise<value_error>(where, "padding", "\"same\" of an even kernel", "the same on both sides");
      a.padding = both / 2;
    }
    return a;
  };
  return {o.in_channels(), axis(0), axis(1)};
}

/// torch::nn::Conv2d (groups = 1, zeros as padding) with a low-rank adapter: A is a convolution to r channels, B a 1x1
/// one. lora_A is r x (channels*kernel_height*kernel_width). See adapter_module.
/// errors  from `forward` those of the adapter's passes, and state_error for an adapter that was never started
template <Element T = float, class B = cpu, Element U = T>
class lora_conv2d_impl : public detail::adapted_layer<detail::convolution_passes<T, B, U>> {
  using layer = detail::adapted_layer<detail::convolution_passes<T, B, U>>;
  convolution_geometry geometry_;

 public:
  torch::nn::Conv2d base{nullptr};  ///< the layer that was there

  /// errors  value_error for a base of another type than U, if rank < 1, for a dropout outside [0, 1), and as geometry_of
  template <Scaling S = rank_stable_scaling>
  explicit lora_conv2d_impl(torch::nn::Conv2d convolution, index_t rank = 8, S const& scaling = {},
                            lora_options options = {}, std::shared_ptr<runtime<B>> on = usual_runtime<B>())
      : lora_conv2d_impl(convolution, geometry_of(convolution->options), rank, scaling, options, std::move(on)) {}

  /// shapes  x [images, channels, height, width], or one image without the first
  at::Tensor forward(at::Tensor const& x) { return this->through(x, base->forward(x)); }

 private:
  at::Tensor weight() const override { return base->weight; }
  layer_kind kind() const override {
    return {layer_form::convolution, geometry_.height.kernel, geometry_.width.kernel};
  }

  template <class S>
  lora_conv2d_impl(torch::nn::Conv2d& convolution, convolution_geometry const& g, index_t rank, S const& scaling,
                   lora_options options, std::shared_ptr<runtime<B>> on)
      : layer("lora_conv2d", convolution->options.out_channels(), g.in(), rank,
              scaling.scale(convolution->options.out_channels(), g.in(), rank), options,
              layer::checked_device(convolution->weight, "lora_conv2d"), std::move(on),
              [&](auto adapter) { return detail::convolution_passes<T, B, U>(g, std::move(adapter)); }),
        geometry_(g) {
    base = this->register_module("base", convolution);
    this->freeze(*base);
  }
};

/// The holder of lora_conv2d_impl; see lora_linear.
template <Element T = float, class B = cpu, Element U = T>
class lora_conv2d : public torch::nn::ModuleHolder<lora_conv2d_impl<T, B, U>> {
  using impl = lora_conv2d_impl<T, B, U>;

 public:
  using torch::nn::ModuleHolder<impl>::ModuleHolder;
  /// errors  as the module's own
  template <Scaling S = rank_stable_scaling>
  explicit lora_conv2d(torch::nn::Conv2d convolution, index_t rank = 8, S const& scaling = {},
                       lora_options options = {}, std::shared_ptr<runtime<B>> on = usual_runtime<B>())
      : torch::nn::ModuleHolder<impl>(std::make_shared<impl>(convolution, rank, scaling, options, std::move(on))) {}
};

}  // namespace loraga::libtorch
