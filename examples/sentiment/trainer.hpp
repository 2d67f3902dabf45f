#pragma once
#include <chrono>
#include <cstdio>
#include <loraga/io/checkpoint.hpp>
#include <optional>

#include "allocation_meter.hpp"
#include "starts.hpp"

namespace sentiment {

inline double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

/// Loss and hits over items of a set, in batches of like length.
template <class B>
model::loss_result evaluate(B& be, model::text_encoder<B>& m, data::text_set const& set, index_t first, index_t n) {
  // the activations of few snippets stay in a CPU core's own cache; a GPU needs many to be busy
  index_t const batch = std::is_same_v<typename B::space, loraga::host_space> ? 16 : 256;
  model::loss_result total;
  data::text_buffer<B> buffer;
  for (auto const& items : set.by_length(first, n, batch)) total += m.run(be, buffer.pick(be, set, items), false);
  return total;
}

/// What all runs of a set share.
struct task {
  model::text_encoder_shape shape;
  model::encoder_weights const* weights;
  data::text_parts const* data;
};

/// One fine-tuning run, from its start or from a checkpoint on. Head, data order and gradient sample depend on the seed
/// alone, so methods are compared on the same.
template <class B>
class training {
  static constexpr index_t curve_snippets = 200;  // of the part, at each evaluation; all of it at the end
  using optimiser = loraga::adamw<float, B, loraga::cosine_schedule>;

  B& be_;
  train_spec const spec_;
  method const& how_;
  data::text_set const &training_, &held_out_;
  index_t const steps_;
  model::text_encoder<B> model_;
  optimiser optimiser_;
  std::optional<loraga::adalora_budget<float, B>> budget_;  // AdaLoRA's
  loraga::matrix<double, B> orthogonality_;                 // its regulariser, which nobody reads
  measurements<B> measured_;                                // what ranks were found from, until the start
  std::int64_t measured_bytes_ = 0;                         // with the activations that came with it
  data::sampler order_;
  data::text_buffer<B> buffer_;
  train_record record_;
  model::loss_result last_;  // the last evaluation's
  index_t step_ = 0;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  double seconds_before_ = 0;  // of the processes before this one

 public:
  training(B& be, task const& t, train_spec const& s)
      : be_(be),
        spec_(s),
        how_(find_method(s.method)),
        training_(t.data->train),
        held_out_(t.data->part(s.part)),
        steps_(s.epochs > 0 ? s.epochs * ((training_.count() + s.batch - 1) / s.batch) : s.steps),
        model_(be, t.shape),
        optimiser_(be, {.total = steps_, .warmup = (steps_ * 3 + 99) / 100}),
        orthogonality_(be, 1, 1),
        order_(training_.count(), {s.seed, 1}) {
    model::load(be, model_, *t.weights);
    model_.randomise_head(be, {s.seed, 4000});
    if (!how_.full()) add_adapters();
    loraga::adamw_group const group{.learning_rate = s.rate};
    auto const base = optimiser_.add_group(be, group);
    for (auto* tensor : trained(true)) {
      optimiser_.add(be, base, tensor->parameter());
      record_.trainable += tensor->value.rows() * tensor->value.cols();
    }
    for (auto* l : model_.linears()) {
      if (!l->adapter) continue;
      loraga::add_adapter(be, optimiser_, l->adapter, group, s.ratio);
      record_.trainable += l->adapter.trainable();
    }
  }

  /// Trains to the end. A checkpoint of this configuration that is there is gone on from.
  /// errors  numeric_error when the loss is not finite any more; state_error for a checkpoint of another configuration
  train_record run(checkpointing const& keep, std::function<void(progress const&)> const& tell) {
    auto held = thread_allocations::now() - measured_bytes_;
    if (!keep.path.empty() && std::filesystem::exists(keep.path)) {
      resume(keep.path);
      held = thread_allocations::now();
    } else {
      begin();
    }
    thread_allocations::reset_most();
    while (true) {
      if (due()) look(tell);
      if (step_ == steps_) break;
      advance();
      if (!keep.path.empty() && step_ % keep.every == 0 && step_ < steps_) save(keep.path);
    }
    record_.training_peak_bytes = thread_allocations::most() - held;
    finish();
    return record_;
  }

  template <class C>
  void visit_state(C& c) {
    auto text = configuration();
    c("configuration", text);
    c("step", step_);
    double spent = seconds_before_ + seconds_since(began_);
    c("seconds", spent);
    if (c.stores()) seconds_before_ = spent;
    c("init_seconds", record_.init_seconds);
    c("init_peak_bytes", record_.init_peak_bytes);
    c("steps", record_.steps);
    c("losses", record_.losses);
    c("accuracies", record_.accuracies);
    c("train_losses", record_.train_losses);
    c("order", order_);
    c("optimiser", optimiser_);
    if (budget_) c("budget", *budget_);
    for (auto* t : trained(false)) c(t->name, t->value.view());
    for (auto* l : model_.linears()) l->adapter.with([&](auto& ad) { c(l->weight.name + ".adapter", ad); });
  }

 private:
  /// Everything for full fine-tuning, else the head.
  std::vector<model::tensor<B>*> trained(bool prepare) {
    auto all = model_.tensors();
    if (!how_.full()) all.erase(all.begin(), all.end() - 2);
    if (prepare)
      for (auto* t : all) t->train(be_, true);
    return all;
  }

  void add_adapters() {
    auto const start_time = std::chrono::steady_clock::now();
    allocation_peak const peak;
    auto const ranks = layer_ranks(be_, model_, how_, spec_, training_, measured_);
    if (how_.own_ranks()) {  // the others' ranks cost nothing
      record_.init_peak_bytes = peak.bytes();
      measured_bytes_ = peak.held();
      record_.init_seconds = seconds_since(start_time);
    }
    make_adapters(be_, model_, how_, spec_, ranks);
    if (how_.kind != adapter_kind::adalora) return;
    std::vector<loraga::adalora<float, B>*> adapters;
    for (auto* l : model_.linears()) adapters.push_back(l->adapter.template get<loraga::adalora<float, B>>());
    budget_.emplace(be_, adapters, pruning());
  }
  /// AdaLoRA prunes from the first tenth of the steps on and is done for the last three.
  loraga::adalora_schedule pruning() const {
    return {.initial_rank = initial_rank(spec_.rank),
            .target_rank = spec_.rank,
            .warmup = steps_ / 10,
            .final = steps_ * 3 / 10,
            .total = steps_,
            .interval = std::max<index_t>(1, steps_ / 50)};
  }

  void begin() {
    if (how_.full()) return;
    auto const start_time = std::chrono::steady_clock::now();
    allocation_peak const peak;
    start_adapters(be_, model_, how_, spec_, training_, measured_);
    be_.synchronize();
    measured_ = {};
    record_.init_peak_bytes = std::max(record_.init_peak_bytes, measured_bytes_ + peak.bytes());
    record_.init_seconds += seconds_since(start_time);
  }

  bool due() const { return step_ == 0 || step_ == steps_ || step_ % spec_.evaluate_every == 0; }
  void look(std::function<void(progress const&)> const& tell) {
    auto const r = evaluate(be_, model_, held_out_, 0, std::min(curve_snippets, held_out_.count()));
    require_finite(r);
    record_.steps.push_back(step_);
    record_.losses.push_back(r.mean());
    record_.accuracies.push_back(r.accuracy());
    last_ = r;
    tell({step_, steps_, r.mean()});
  }
  void require_finite(model::loss_result const& r) const {
    if (!loraga::is_finite(r.loss_sum))
      loraga::raise<loraga::numeric_error>("training::run", "the loss after step " + std::to_string(step_),
                                           "not finite", "a number: the run diverged");
  }
  void advance() {
    for (auto* t : trained(false)) loraga::fill(be_, t->gradient.view(), 0);
    for (auto* l : model_.linears()) l->adapter.zero_gradient(be_);
    auto const r = model_.run(be_, buffer_.pick(be_, training_, order_.draw(spec_.batch)), true);
    require_finite(r);
    if (budget_) budget_->add_orthogonality(be_, 0.5, orthogonality_.view());
    optimiser_.step(be_);
    if (budget_) budget_->update(be_);
    record_.train_losses.push_back(r.mean());
    ++step_;
  }
  void finish() {
    auto r = last_;
    if (r.count < held_out_.count()) r += evaluate(be_, model_, held_out_, r.count, held_out_.count() - r.count);
    record_.loss = r.mean();
    record_.accuracy = r.accuracy();
    record_.n_train = training_.count();
    record_.n_test = held_out_.count();
    record_.seconds = seconds_before_ + seconds_since(began_);
  }

  /// All that decides a run's numbers, one `name = value` per line.
  std::string configuration() const {
    std::string text;
    auto const line = [&](std::string const& name, auto const& value) {
      text += name + " = ";
      if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(value)>>) {
        char number[32];
        std::snprintf(number, sizeof number, "%.17g", static_cast<double>(value));
        text += number;
      } else {
        text += value;
      }
      text += '\n';
    };
    auto const& s = spec_;
    line("method", s.method);
    line("set", s.set);
    line("part", s.part);
    line("rank", s.rank);
    line("alpha", s.alpha);
    line("gamma", s.gamma);
    line("lr", s.rate);
    line("ratio", s.ratio);
    line("seed", s.seed);
    line("steps", steps_);
    line("batch", s.batch);
    line("evaluate_every", s.evaluate_every);
    line("directions", s.directions);
    line("sample_batches", s.sample.batches);
    line("sample_batch", s.sample.batch);
    line("training snippets", training_.count());
    line("held-out snippets", held_out_.count());
    line("layers", model_.shape.layers);
    line("width", model_.shape.width);
    return text;
  }

  void save(std::string const& path) {
    loraga::save_checkpoint(be_, path, [&](auto& c) { visit_state(c); });
  }
  void resume(std::string const& path) {
    {
      loraga::safetensors_file const file(path);
      if (file.contains("configuration")) {
        auto const bytes = file["configuration"].bytes;
        require_same({reinterpret_cast<char const*>(bytes.data()), bytes.size()}, path);
      }
    }
    loraga::load_checkpoint(be_, path, [&](auto& c) { visit_state(c); });
    measured_ = {};
    anchor_again(be_, model_);
  }
  void require_same(std::string const& theirs, std::string const& path) const {
    auto const ours = configuration();
    if (theirs == ours) return;
    auto const lines = [](std::string const& text) {
      std::vector<std::string> all;
      for (std::size_t at = 0; at < text.size();) {
        auto const end = std::min(text.find('\n', at), text.size());
        all.push_back(text.substr(at, end - at));
        at = end + 1;
      }
      return all;
    };
    auto const a = lines(theirs), b = lines(ours);
    std::size_t i = 0;
    while (i + 1 < a.size() && i + 1 < b.size() && a[i] == b[i]) ++i;
    loraga::raise<loraga::state_error>("training::run", "checkpoint " + path,
                                       "of another configuration (" + (a.empty() ? "" : a[i]) + ")",
                                       b[i] + "; delete it or choose another folder");
  }
};

}  // namespace sentiment
