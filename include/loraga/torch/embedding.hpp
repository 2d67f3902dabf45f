#pragma once
#include <torch/nn/modules/embedding.h>

#include <loraga/torch/adapted_layer.hpp>
#include <loraga/torch/embedding_passes.hpp>

namespace loraga::libtorch {

/// torch::nn::Embedding with a low-rank adapter, without dropout. lora_A is r x vocabulary, lora_B dim x r. A padding
/// id learns nothing, as in torch and PEFT. See adapter_module.
/// errors  from `forward` those of the adapter's passes, and state_error for an adapter that was never started
template <Element T = float, class B = cpu, Element U = T>
class lora_embedding_impl : public detail::adapted_layer<detail::embedding_passes<T, B, U>> {
  using layer = detail::adapted_layer<detail::embedding_passes<T, B, U>>;

 public:
  torch::nn::Embedding base{nullptr};  ///< the layer that was there

  /// errors  value_error for a base of another type than U, if rank < 1; for max_norm, scale_grad_by_freq, sparse and dropout, which an adapter cannot have
  template <Scaling S = rank_stable_scaling>
  explicit lora_embedding_impl(torch::nn::Embedding table, index_t rank = 8, S const& scaling = {},
                               lora_options options = {}, std::shared_ptr<runtime<B>> on = usual_runtime<B>())
      : layer("lora_embedding", table->options.embedding_dim(), table->options.num_embeddings(), rank,
              scaling.scale(table->options.embedding_dim(), table->options.num_embeddings(), rank),
              checked(table->options, options), layer::checked_device(table->weight, "lora_embedding"), std::move(on),
              [&](auto adapter) {
                return detail::embedding_passes<T, B, U>(std::move(adapter), padding(table->options));
              }) {
    base = this->register_module("base", table);
    this->freeze(*base);
  }

  /// shapes  ids [...], y [..., dim]
  at::Tensor forward(at::Tensor const& ids) { return this->through(ids, base->forward(ids)); }

 private:
  at::Tensor weight() const override { return base->weight; }
  layer_kind kind() const override { return {layer_form::embedding}; }

  static std::optional<index_t> padding(torch::nn::EmbeddingOptions const& o) {
    if (!o.padding_idx()) return {};
    return *o.padding_idx() < 0 ? *o.padding_idx() + o.num_embeddings() : *o.padding_idx();
  }
  static lora_options checked(torch::nn::EmbeddingOptions const& o, lora_options options) {
    auto const refuse = [](bool given, char const* what) {
      if (given) raise<value_error>("lora_embedding", what, "set", "not set: an adapter cannot do the same");
    };
    refuse(o.max_norm().has_value(), "max_norm");
    refuse(o.scale_grad_by_freq(), "scale_grad_by_freq");
    refuse(o.sparse(), "sparse");
    refuse(options.dropout != 0, "dropout");
    return options;
  }
};

/// The holder of lora_embedding_impl; see lora_linear.
template <Element T = float, class B = cpu, Element U = T>
class lora_embedding : public torch::nn::ModuleHolder<lora_embedding_impl<T, B, U>> {
  using impl = lora_embedding_impl<T, B, U>;

 public:
  using torch::nn::ModuleHolder<impl>::ModuleHolder;
  /// errors  as the module's own
  template <Scaling S = rank_stable_scaling>
  explicit lora_embedding(torch::nn::Embedding table, index_t rank = 8, S const& scaling = {},
                          lora_options options = {}, std::shared_ptr<runtime<B>> on = usual_runtime<B>())
      : torch::nn::ModuleHolder<impl>(std::make_shared<impl>(table, rank, scaling, options, std::move(on))) {}
};

}  // namespace loraga::libtorch
