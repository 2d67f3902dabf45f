#pragma once
#include <chrono>
#include <loraga/io/checkpoint.hpp>
#include <optional>

#include "allocation_meter.hpp"
#include "configuration.hpp"
#include "starts.hpp"

namespace training {

inline double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

/// One fine-tuning run, from its start or from a checkpoint on. Head, data order and gradient sample depend on the seed
/// alone, so methods are compared on the same. R says who trains: this process, or a group of ranks, which all make the
/// same calls.
template <class B, class M, class S, class R = one_process>
class trainer {
  using optimiser = loraga::adamw<float, B, loraga::cosine_schedule>;

  B& be_;
  R const ranks_;
  task<M, S> const task_;
  train_spec const spec_;
  method const how_;
  S const &items_, &held_out_;
  index_t const steps_;
  M model_;
  std::optional<M> copy_;  // with the adapters merged, where those are evaluated
  optimiser optimiser_;
  typename R::template gradient_mean<B> mean_;
  std::optional<loraga::adalora_budget<float, B>> budget_;  // AdaLoRA's
  loraga::matrix<double, B> orthogonality_;                 // its regulariser, which nobody reads
  measurements<B> measured_;                                // what ranks were found from, until the start
  std::int64_t measured_bytes_ = 0;                         // with the activations that came with it
  data::sampler order_;
  typename S::template buffer<B> buffer_;
  train_record record_;
  model::loss_result last_;  // the last evaluation's
  index_t step_ = 0;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  double seconds_before_ = 0;  // of the processes before this one

 public:
  trainer(B& be, task<M, S> const& t, train_spec const& s, R const& ranks = {})
      : be_(be),
        ranks_(ranks),
        task_(t),
        spec_(s),
        how_(find_method(s.method)),
        items_(t.data->train),
        held_out_(t.data->part(s.part)),
        steps_(s.epochs > 0 ? s.epochs * ((items_.count() + s.batch - 1) / s.batch) : s.steps),
        model_(be, t.shape),
        optimiser_(be, {.total = steps_, .warmup = s.warmup >= 0 ? s.warmup : (steps_ * 3 + 99) / 100}),
        orthogonality_(be, 1, 1),
        order_(items_.count(), {s.seed, 1}) {
    set_up(be, model_, t, s.seed);
    if (!how_.full()) add_adapters();
    loraga::adamw_group const group{.learning_rate = s.rate};
    auto const base = optimiser_.add_group(be, group);
    for (auto* tensor : trained()) {
      tensor->train(be, true);
      optimiser_.add(be, base, tensor->parameter());
      mean_.add(tensor->gradient.view());
      record_.trainable += tensor->value.rows() * tensor->value.cols();
    }
    for (auto* l : model_.linears()) {
      if (!l->adapter) continue;
      loraga::add_adapter(be, optimiser_, l->adapter, group, s.ratio);
      mean_.add(l->adapter);
      record_.trainable += l->adapter.trainable();
    }
  }
  M& model() { return model_; }

  /// Trains to the end. A checkpoint of this configuration that is there is gone on from.
  /// errors  numeric_error when the loss is not finite any more; state_error for a checkpoint of another configuration
  train_record run(checkpointing const& keep, listener const& tell) {
    auto held = thread_allocations::now() - measured_bytes_;
    if (ranks_.decide(be_, !keep.path.empty() && std::filesystem::exists(keep.path))) {
      resume(keep.path);
      held = thread_allocations::now();
    } else {
      start();
    }
    thread_allocations::reset_most();
    while (true) {
      if (due()) look(tell);
      if (step_ == steps_) break;
      zero_gradients();
      auto const r = learn(order_.draw(spec_.batch));
      require_finite(r);
      step();
      record_.train_losses.push_back(r.mean());
      ++step_;
      if (!keep.path.empty() && step_ % keep.every == 0 && step_ < steps_) save(keep.path);
    }
    record_.training_peak_bytes = thread_allocations::most() - held;
    finish();
    return record_;
  }

  /// Starts the adapters, as `run` does.
  void start() {
    if (how_.full()) return;
    auto const start_time = std::chrono::steady_clock::now();
    allocation_peak const peak;
    start_adapters(be_, model_, how_, spec_, items_, measured_, task_.layer_seeds, ranks_);
    be_.synchronize();
    measured_ = {};
    record_.init_peak_bytes = std::max(record_.init_peak_bytes, measured_bytes_ + peak.bytes());
    record_.init_seconds += seconds_since(start_time);
  }
  void zero_gradients() {
    for (auto* t : trained()) loraga::fill(be_, t->gradient.view(), 0);
    for (auto* l : model_.linears()) l->adapter.zero_gradient(be_);
  }
  /// Adds the gradients of a batch. Ranks learn once between zero_gradients and step.
  model::loss_result learn(std::vector<index_t> const& items) {
    model::loss_result r;
    auto const& mine = ranks_.share(items);
    if (mine.empty()) prepare_adapters(be_, model_);
    else r = model_.run(be_, buffer_.pick(be_, items_, mine), true);
    mean_.run(be_, ranks_, r.count);
    return ranks_.total(be_, r);
  }
  void step() {
    if (budget_) budget_->add_orthogonality(be_, 0.5, orthogonality_.view());
    optimiser_.step(be_);
    if (budget_) budget_->update(be_);
  }

  template <class C>
  void visit_state(C& c) {
    auto text = configuration();
    c("configuration", text);
    c("step", step_);
    double spent = seconds_before_ + seconds_since(began_);
    c("spent", spent);
    if (c.stores()) seconds_before_ = spent;
    for_each_field(record_, [&](char const* name, auto& value) { c(name, value); });
    c("order", order_);
    c("optimiser", optimiser_);
    if (budget_) c("budget", *budget_);
    for (auto* t : trained()) c(t->name, t->value.view());
    for (auto* l : model_.linears()) l->adapter.with([&](auto& ad) { c(l->weight.name + ".adapter", ad); });
  }

 private:
  /// Everything for full fine-tuning, else the head, where there is one.
  std::vector<model::tensor<B>*> trained() {
    auto all = model_.tensors();
    if (!how_.full() && !all.empty()) all.erase(all.begin(), all.end() - 2);
    return all;
  }

  void add_adapters() {
    auto const start_time = std::chrono::steady_clock::now();
    allocation_peak const peak;
    auto const ranks = layer_ranks(be_, model_, how_, spec_, items_, measured_, ranks_);
    if (how_.own_ranks()) {  // the others' ranks cost nothing
      record_.init_peak_bytes = peak.bytes();
      measured_bytes_ = peak.held();
      record_.init_seconds = seconds_since(start_time);
    }
    make_adapters(be_, model_, how_, spec_, ranks);
    if (how_.kind != adapter_kind::adalora) return;
    std::vector<loraga::adalora<float, B>*> adapters;
    for (auto* l : model_.linears()) adapters.push_back(l->adapter.template get<loraga::adalora<float, B>>());
    budget_.emplace(be_, adapters, pruning(ranks[0]));
  }
  /// AdaLoRA prunes from the first tenth of the steps on and is done for the last three.
  loraga::adalora_schedule pruning(index_t initial) const {
    return {.initial_rank = initial,
            .target_rank = std::min(spec_.rank, initial),
            .warmup = steps_ / 10,
            .final = steps_ * 3 / 10,
            .total = steps_,
            .interval = std::max<index_t>(1, steps_ / 50)};
  }

  bool due() const { return step_ == 0 || step_ == steps_ || step_ % spec_.evaluate_every == 0; }
  M& evaluated() {
    if (!task_.merged) return model_;
    if (!copy_) copy_.emplace(be_, task_.shape);
    return *copy_;
  }
  void look(listener const& tell) {
    if constexpr (!is_frozen<M>)
      if (task_.merged) copy_merged(be_, model_, evaluated());
    auto const r = evaluate(be_, evaluated(), held_out_, 0, std::min(task_.curve_items, held_out_.count()), ranks_);
    require_finite(r);
    record_.steps.push_back(step_);
    record_.losses.push_back(r.mean());
    record_.accuracies.push_back(r.accuracy());
    last_ = r;
    tell({step_, steps_, r.mean()});
  }
  void require_finite(model::loss_result const& r) const {
    if (!loraga::is_finite(r.loss_sum))
      loraga::raise<loraga::numeric_error>("trainer::run", "the loss after step " + std::to_string(step_), "not finite",
                                           "a number: the run diverged");
  }
  void finish() {
    auto r = last_;
    if (r.count < held_out_.count())
      r += evaluate(be_, evaluated(), held_out_, r.count, held_out_.count() - r.count, ranks_);
    record_.loss = r.mean();
    record_.accuracy = r.accuracy();
    record_.n_train = items_.count();
    record_.n_test = held_out_.count();
    record_.seconds = seconds_before_ + seconds_since(began_);
  }

  std::string configuration() {
    index_t parameters = 0;
    for (auto* t : model_.tensors()) parameters += t->value.rows() * t->value.cols();
    auto s = spec_;
    s.steps = steps_;
    s.epochs = 0;
    return configuration_text(s) + configuration_line("training items", items_.count()) +
           configuration_line("held-out items", held_out_.count()) +
           configuration_line("layers", static_cast<index_t>(model_.linears().size())) +
           configuration_line("parameters", parameters);
  }
  void save(std::string const& path) {
    ranks_.save(be_, path, [&](auto& c) { visit_state(c); });
  }
  void resume(std::string const& path) {
    {
      loraga::safetensors_file const file(path);
      if (file.contains("configuration")) {
        auto const bytes = file["configuration"].bytes;
        require_same_configuration({reinterpret_cast<char const*>(bytes.data()), bytes.size()}, configuration(), path);
      }
    }
    ranks_.load(be_, path, [&](auto& c) { visit_state(c); });
    measured_ = {};
    anchor_again(be_, model_);
  }
};
template <class B, class M, class S>
trainer(B&, task<M, S> const&, train_spec const&) -> trainer<B, M, S>;
template <class B, class M, class S, class R>
trainer(B&, task<M, S> const&, train_spec const&, R const&) -> trainer<B, M, S, R>;

}  // namespace training
