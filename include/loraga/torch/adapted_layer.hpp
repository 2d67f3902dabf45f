#pragma once
#include <loraga/torch/adapter_function.hpp>
#include <loraga/torch/adapter_module.hpp>
#include <vector>

namespace loraga::libtorch::detail {

/// A module's passes: how a kind of layer (P: linear_passes, ...) goes through autograd.
template <class P>
class adapted_layer : public adapter_module<typename P::element, typename P::backend, typename P::base_element> {
  using B = typename P::backend;
  using U = typename P::base_element;
  using base = adapter_module<typename P::element, B, U>;
  using typename base::adapter_type;

  P passes_;
  std::vector<typename P::tape> spare_;  // tapes that no graph holds: their memory is kept

 public:
  /// What backward needs from forward, in autograd's graph. It goes back to the layer when the graph lets go of it.
  class tape : public torch::CustomClassHolder {
    friend adapted_layer;
    std::shared_ptr<adapted_layer> layer_;  // null for a pass that no backward follows
    typename P::tape inner_;
    bool passed_ = false, training_ = false;
    std::array<void const*, 2> factors_ = {};

   public:
    tape() = default;
    explicit tape(std::shared_ptr<adapted_layer> layer) : layer_(std::move(layer)) {
      layer_->runtime_->run([&](B&) {
        if (layer_->spare_.empty()) return;
        inner_ = std::move(layer_->spare_.back());
        layer_->spare_.pop_back();
      });
      inner_.keep = true;  // retain_graph: every backward gives gradients of its own
    }
    ~tape() override {
      if (layer_) layer_->runtime_->run([&](B&) { layer_->spare_.push_back(std::move(inner_)); });
    }
    tape(tape const&) = delete;
    tape& operator=(tape const&) = delete;
    adapted_layer& layer() const { return *layer_; }
  };

 protected:
  /// The adapter is made over A and B; `build(adapter)` makes the passes around it.
  template <class F>
  adapted_layer(std::string where, index_t out, index_t in, index_t rank, double scale, lora_options options,
                at::Device device, std::shared_ptr<runtime<B>> on, F const& build)
      : base(std::move(where), out, in, rank, scale, options, device, std::move(on)),
        passes_(build(this->make_adapter())) {}

  adapter_type& held() override { return passes_.adapter(); }
  adapter_type const& held() const override { return passes_.adapter(); }

  /// y, which is the base's output for x, with the adapter's part. Without gradients y itself is written.
  at::Tensor through(at::Tensor const& x, at::Tensor const& y) {
    auto const type = y.scalar_type();
    if (type != scalar_type<U> || (x.is_floating_point() && x.scalar_type() != scalar_type<U>))  // autocast
      return through(x.is_floating_point() ? x.to(scalar_type<U>) : x, y.to(scalar_type<U>)).to(type);
    this->runtime_->run([&](B& be) {
      torch_state<B>::check(be, y, this->where_);
      this->follow(be);
      held().train(this->is_training());
    });
    if (passes_by(x, y)) return y;
    auto const& f = this->factors_;
    if (records_graph(x, y))
      return adapter_function<adapted_layer>::apply(x, y, f.a, f.b,
                                                    std::static_pointer_cast<adapted_layer>(this->shared_from_this()));
    auto const result = output(y, "Y");
    tape thrown_away;
    add(input(x), result, thrown_away);
    if (result.is_same(y)) bump(y);
    return result;
  }

 private:
  bool factors_learn() const {
    return at::GradMode::is_enabled() && (this->factors_.a.requires_grad() || this->factors_.b.requires_grad());
  }
  bool records_graph(at::Tensor const& x, at::Tensor const& y) const {
    return factors_learn() || (at::GradMode::is_enabled() && (x.requires_grad() || y.requires_grad()));
  }
  /// Whether a pass is the base's alone: merged, or not started. Refused where it would train nothing without a word.
  bool passes_by(at::Tensor const& x, at::Tensor const& y) const {
    if (this->collecting()) return false;
    if (held().merged() && factors_learn() && this->is_training())
      raise<state_error>(this->where_, "adapter", "merged in a pass that trains, from which A and B learn nothing",
                         "unmerged; or call eval(), or pass under NoGradGuard");
    if (!held().merged() && !held().started() && records_graph(x, y))
      raise<state_error>(this->where_, "adapter", "without a start (A = B = 0, which never learns)",
                         "one that libtorch::initialise, load_peft or torch::load started; after writing A and B "
                         "through with_adapter call layer->written(). NoGradGuard gives the base's own pass");
    return held().merged() || !held().started();
  }

 public:
  // What adapter_function asks of a layer.

  at::Tensor input(at::Tensor const& x) const { return passes_.input(x); }
  at::Tensor output(at::Tensor const& y, char const* name) const { return passes_.output(y, name); }
  /// y += s*B*A*x. A layer that collects needs no start: it does nothing before it has one.
  void add(at::Tensor const& x, at::Tensor const& y, tape& t) {
    this->runtime_->run([&](B& be) {
      t.passed_ = !held().merged() && (held().started() || !this->collecting());
      if (!t.passed_) return;
      t.training_ = held().training();
      t.factors_ = this->factors_.addresses();
      passes_.forward(be, x, y, t.inner_);
    });
  }
  /// dX, dA and dB of one pass; undefined where they are not wanted, or where the layer collects.
  std::array<at::Tensor, 3> backward(at::Tensor const& x, at::Tensor const& dy, tape& t, bool wants_dx) {
    return this->runtime_->run([&](B& be) {
      torch_state<B>::check(be, dy, this->where_);
      std::array<at::Tensor, 3> result;
      if (t.passed_ && t.factors_ != this->factors_.addresses())
        raise<state_error>(this->where_, "A or B", "at another place than in forward (loaded or moved since)",
                           "untouched between forward and backward");
      if (t.passed_) {
        held().train(t.training_);
        held().zero_gradient(be);
        result[0] = passes_.backward(be, x, dy, t.inner_, wants_dx);
      }
      if (this->collecting()) {
        passes_.add_gradient(be, *this->sink_, x, dy);
      } else if (t.passed_) {
        std::tie(result[1], result[2]) = this->factors_.gradients();
      }
      return result;
    });
  }
};

}  // namespace loraga::libtorch::detail
