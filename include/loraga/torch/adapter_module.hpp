#pragma once
#include <torch/nn/module.h>

#include <loraga/gradient/dense.hpp>
#include <loraga/io/adapter_record.hpp>
#include <loraga/torch/runtime.hpp>
#include <loraga/torch/tracked_factors.hpp>

namespace loraga::libtorch {

namespace detail {

/// Where a layer's backward puts its dW: an accumulator, whatever its class.
template <class B, Element U>
struct gradient_sink {
  using space = typename B::space;
  virtual ~gradient_sink() = default;
  virtual void add(B& be, const_view<compute_t<U>, space> dw) = 0;
  virtual void add_outer(B& be, const_view<U, space> dy, const_view<U, space> x) = 0;
};

template <class G, class B, Element U>
struct sink_into final : gradient_sink<B, U> {
  using space = typename B::space;
  G* gradient;
  double weight;
  sink_into(G& g, double w) : gradient(&g), weight(w) {}
  void add(B& be, const_view<compute_t<U>, space> dw) override { gradient->add(be, dw, weight); }
  void add_outer(B& be, const_view<U, space> dy, const_view<U, space> x) override {
    gradient->add_outer(be, dy, x, weight);
  }
};

/// What the library's templates call an element type.
template <Element T>
constexpr char const* element_text = std::is_same_v<T, double>  ? "double"
                                     : std::is_same_v<T, float> ? "float"
                                     : std::is_same_v<T, bf16>  ? "bf16"
                                                                : "fp16";
/// Template arguments of a module, "<float, cpu, bf16>", for messages.
template <Element T, class B, Element U>
std::string types_text() {
  char const* const backend = std::is_same_v<typename B::space, host_space> ? "cpu" : "cuda";
  return std::string("<") + element_text<T> + ", " + backend + ", " + element_text<U> + ">";
}

}  // namespace detail

/// A module with an adapter of any types: what a walk over a model asks it.
class any_adapter_module : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;
  /// The base's weight.
  virtual at::Tensor weight() const = 0;
  /// Whether W holds the adapter's part.
  virtual bool merged() const = 0;
  /// Whether W holds -s*B0*A0.
  virtual bool anchored_in_place() const = 0;
  /// Whether A and B were given: by `initialise`, from a file, or by hand.
  virtual bool started() = 0;
  /// errors  state_error if W was written or replaced since it was merged or anchored
  virtual void check_base() const = 0;
  /// The module's template arguments, such as "<float, cpu, bf16>".
  virtual std::string types() const = 0;
};

/// What all modules with an adapter have in common, whatever their base is: lora_linear, lora_conv2d, lora_embedding.
/// A and B are torch's parameters lora_A and lora_B. Their gradients are torch's too, in `.grad`; torch's optimisers
/// step them. The base is frozen when the module is made.
/// T is the adapter's element type, U its base's; a float adapter on a 16-bit base is the usual pair. Inputs of another
/// type than U (autocast) are converted for the adapter.
template <Element T, class B, Element U>
class adapter_module : public any_adapter_module {
 public:
  using adapter_type = lora<T, B>;  ///< of the library
  using space = typename B::space;

  /// A, r x in: the parameter lora_A.
  at::Tensor lora_a() const { return factors_.a; }
  /// B, out x r: the parameter lora_B.
  at::Tensor lora_b() const { return factors_.b; }
  /// What files call this kind of layer.
  virtual layer_kind kind() const = 0;

  /// f(backend, adapter): the adapter as the library knows it, over torch's memory. Whoever writes A, B or W through it
  /// calls `written` afterwards.
  template <class F>
  auto with_adapter(F&& f) {
    return runtime_->run([&](B& be) {
      follow(be);
      return f(be, held());
    });
  }
  /// A, B, their start or W were written by the library: autograd and torch's files learn of it.
  void written() {
    runtime_->run([&](B& be) { factors_.written(be, held(), weight()); });
  }
  /// W as out x in; for a convolution out x (channels*kernel).
  /// errors  value_error for another element type; shape_error for a weight that is no matrix in memory (channels_last)
  matrix_view<U, space> weight_view() const {
    auto const w = weight();
    require_tensor<space>(w, scalar_type<U>, where_, "the base's weight");
    if (kind().form == layer_form::embedding) return view<U, space>(w, where_, "the base's weight").transposed();
    if (w.dim() == 2) return view<U, space>(w, where_, "the base's weight");
    if (!w.is_contiguous())
      raise<shape_error>(where_, "the base's weight", tensor_text(w), "contiguous, so that it is a matrix");
    return row_major<space>(static_cast<U*>(w.data_ptr()), w.size(0), w.size(0) == 0 ? 0 : w.numel() / w.size(0));
  }

  /// Whether W can be seen as that: a convolution's in channels_last cannot.
  bool weight_is_matrix() const { return weight().dim() == 2 || weight().is_contiguous(); }

  bool started() override {
    return with_adapter([](B&, auto const& ad) { return ad.started(); });
  }
  bool merged() const override { return held().merged(); }
  bool anchored_in_place() const override { return held().anchored_in_place(); }
  void check_base() const override { factors_.check_base(this->weight()); }
  std::string types() const override { return detail::types_text<T, B, U>(); }
  double scale() const { return held().scale(); }
  index_t rank() const { return held().rank(); }

  /// W += s*B*A, minus the frozen start where there is one; passes are the base's alone until `unmerge`. A module knows
  /// only itself: whether W is another module's too, the free function merge(model) sees.
  /// errors  state_error if merged already or never started; shape_error as weight_view
  void merge() {
    with_adapter([&](B& be, auto& ad) {
      ad.merge(be, weight_view());
      factors_.weight_written(ad, weight());
    });
  }
  /// W -= what merge added.
  /// errors  state_error if not merged
  void unmerge() {
    with_adapter([&](B& be, auto& ad) {
      ad.unmerge(be, weight_view());
      factors_.weight_written(ad, weight());
    });
  }

  /// Every backward from now on adds this layer's dW to an accumulator, until `stop`. Passes need no start meanwhile
  /// (they are the base's alone before one), and A and B get no gradient.
  /// errors  shape_error for an accumulator of another shape; value_error for a weight that is not positive
  template <GradientAccumulator<B> G>
  void collect(G& gradient, double weight = 1) {
    require_weight(weight, where_);
    if (gradient.rows() != held().out() || gradient.cols() != held().in())
      raise<shape_error>(where_ + "::collect", "accumulator", shape_text(gradient.rows(), gradient.cols()),
                         shape_text(held().out(), held().in()));
    sink_ = std::make_unique<detail::sink_into<G, B, U>>(gradient, weight);
  }
  /// Ends what `collect` began.
  void stop() { sink_.reset(); }
  /// Whether backward adds to an accumulator.
  bool collecting() const { return sink_ != nullptr; }

  /// Throws state_error unless both work on one backend: what is made together needs one.
  void require_runtime_of(adapter_module const& other) const {
    if (runtime_ != other.runtime_)
      raise<state_error>(where_, "runtime", "not the other layers'", "one for all layers that are started together");
  }

  /// For torch::save.
  /// errors  state_error if merged (torch would load the sum as the base), or as check_base
  void save(torch::serialize::OutputArchive& archive) const override {
    if (merged()) raise<state_error>(where_ + "::save", "adapter", "merged into the base", "unmerged");
    check_base();
    torch::nn::Module::save(archive);
  }
  /// For torch::load. The adapter, with its start, is that of the file.
  /// errors  state_error if merged; value_error, shape_error if the file holds other tensors
  void load(torch::serialize::InputArchive& archive) override {
    if (merged()) raise<state_error>(where_ + "::load", "adapter", "merged into the base", "unmerged");
    torch::nn::Module::load(archive);
    runtime_->run([&](B& be) { factors_.follow(be, held(), weight(), true); });
  }

 protected:
  adapter_module(std::string where, index_t out, index_t in, index_t rank, double scale, lora_options options,
                 at::Device device, std::shared_ptr<runtime<B>> on)
      : any_adapter_module(where),
        factors_(out, in, rank, scale, options, where, device),
        runtime_(std::move(on)),
        where_(std::move(where)) {
    factors_.a = register_parameter("lora_A", factors_.a);
    factors_.b = register_parameter("lora_B", factors_.b);
    factors_.start_a = register_buffer("start_A", factors_.start_a);
    factors_.start_b = register_buffer("start_B", factors_.start_b);
    factors_.anchor = register_buffer("anchor", factors_.anchor);
  }

  virtual lora<T, B>& held() = 0;
  virtual lora<T, B> const& held() const = 0;

  /// Where the base's weight lies.
  /// errors  value_error unless it is of type U, in B's memory
  static at::Device checked_device(at::Tensor const& weight, char const* where) {
    require_tensor<space>(weight, scalar_type<U>, where, "the base's weight");
    return weight.device();
  }
  /// The base trains no more; a gradient that it has from before is no one's.
  static void freeze(torch::nn::Module const& layer) {
    for (auto& p : layer.parameters()) {
      p.set_requires_grad(false);
      p.mutable_grad().reset();
    }
  }
  lora<T, B> make_adapter() {
    return runtime_->run([&](B& be) { return factors_.make(be); });
  }
  void follow(B& be) { factors_.follow(be, held(), weight()); }

  detail::tracked_factors<T, B> factors_;
  std::shared_ptr<runtime<B>> runtime_;
  std::string where_;
  std::unique_ptr<detail::gradient_sink<B, U>> sink_;
};

}  // namespace loraga::libtorch
