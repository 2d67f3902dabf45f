#pragma once
#include <loraga/adapter/lora.hpp>
#include <loraga/diagnostics/spectrum.hpp>
#include <loraga/init/embedding.hpp>
#include <loraga/init/gaussian.hpp>
#include <loraga/init/kaiming.hpp>
#include <loraga/init/orthogonal.hpp>
#include <loraga/init/pissa.hpp>
#include <loraga/initialise.hpp>
#include <loraga/io/tied_weights.hpp>

#include "gradients.hpp"
#include "init_options.hpp"
#include "progress.hpp"

// Adapters for a model on disk, layer by layer: memory for one layer, whatever the model's size.

namespace adapters {

struct layer_report {
  std::string module;
  index_t out = 0, in = 0, rank = 0;
  double scale = 0;
  std::size_t batches = 0;
  double coverage = 0;  ///< share of the gradient's energy in its 2r leading directions; NaN without a gradient
};

/// f(initialiser): its random numbers are this layer's own. LoRA's start of an embedding is PEFT's for one.
template <class F>
decltype(auto) with_initialiser(init_options const& o, target const& t, F&& f) {
  auto const layer = t.number;
  bool const plain = o.method == start_method::lora || o.method == start_method::lora_gaussian;
  if (plain && t.form == layer_form::embedding) return f(embedding_init{o.seed + layer});
  switch (o.method) {
    case start_method::pissa:
      return f(pissa_init{});
    case start_method::lora:
      return f(kaiming_init{o.seed + layer});
    case start_method::lora_gaussian:
      return f(gaussian_init{o.seed + layer});
    case start_method::orthogonal:
      return f(orthogonal_init{o.seed + layer});
    default:
      auto ga = o.lora_ga;
      ga.seed = o.seed + layer;
      return f(ga);
  }
}

/// An SVD that notes how much of the first matrix' energy it was asked for: LoRA-GA's gradient comes first.
struct measured_svd {
  automatic_svd method;
  double* coverage;
  template <Backend B, class T>
  auto top(B& be, view_list<T, typename B::space> a, index_t k) const {
    auto result = method.top(be, a, k);
    if (std::isnan(*coverage) && result.flags[0] == svd_usable) *coverage = loraga::coverage(be, result, 0, k);
    return result;
  }
};

/// Rounds a record to what its files will hold: the anchor must subtract just that.
inline void round_to(adapter_record& r, dtype type) {
  r.type = type;
  with_float_type(type, r.module, "dtype", [&]<class T>(T) {
    for (auto* m : {&r.a, &r.b, &r.start_a, &r.start_b})
      for (float& x : m->values) x = value_as<float>(static_cast<T>(x));
  });
}

template <Backend B>
class init_job {
  using space = typename B::space;
  using weight_view = matrix_view<float const, space>;
  /// A target, and what is known of it and of its start.
  struct planned {
    target layer;
    gradient_source gradient;
    layer_report report;
  };
  B& be_;
  init_options o_;
  safetensors_model base_;
  std::optional<gradient_files> gradients_;
  std::string prefix_;
  std::vector<planned> planned_;
  std::vector<std::string> skipped_, left_behind_;

 public:
  /// Opens the files and finds out what can be known from names and shapes.
  /// errors  all that check_options and find_targets refuse; format_error naming all layers that cannot be started
  init_job(B& be, init_options options) : be_(be), o_(std::move(options)), base_(o_.base) {
    check_options(o_);
    if (o_.from_gradients()) gradients_.emplace(o_.gradients);
    prefix_ = o_.module_prefix.value_or(o_.renames.empty() ? o_.family_prefix : "");
    for (auto const& name : base_.names())
      if (!o_.module_prefix && name.starts_with(o_.family_prefix)) prefix_.clear();
    layer_problems problems;
    for (auto& t :
         find_targets(base_, o_.targets, {o_.renames, prefix_, o_.embeddings}, o_.fan_in_fan_out, o_.conv1d_family))
      try {
        double const s = o_.stable_ranks() ? rank_stable_scaling{o_.alpha}.scale(t.out, t.in, o_.rank)
                                           : classic_scaling{o_.alpha}.scale(t.out, t.in, o_.rank);
        with_initialiser(o_, t, [&](auto const& init) { init.check(t.out, t.in, o_.rank, s, true); });
        with_float_type(base_[t.place.weight].type, base_[t.place.weight].label, "dtype", [](auto) {});
        gradient_source from;
        if (gradients_) from = find_gradient(*gradients_, t);
        if (gradients_ && from.empty()) {
          if (o_.skip_zero_gradients) skipped_.push_back(t.module);
          else
            problems.add(t.module,
                         "its gradient is missing; " + gradients_->path() + " holds " + gradients_->examples());
          continue;
        }
        planned_.push_back({t, from, {t.module, t.out, t.in, o_.rank, s, from.batches(), NAN}});
      } catch (error const& e) {
        problems.add(t.module, e.what());
      }
    problems.raise_any<format_error>();
    require_untied();
  }

  /// Makes the files. Either all of them appear, whole, or none does.
  /// errors  numeric_error naming all layers whose gradients are zero or not finite, before anything is written;
  ///         file_error; interrupted
  std::vector<layer_report> run() {
    if (gradients_) look_at_gradients();
    if (planned_.empty())
      throw numeric_error("no layer has a gradient; " + gradients_->path() + " holds " + gradients_->examples());
    made_folders folders;
    folders.make(o_.out);
    std::vector<record_info> infos;
    for (auto const& [t, from, r] : planned_)
      infos.push_back(
          {r.module, r.scale, r.out, r.in, r.rank, o_.has_anchor() ? r.rank : 0, o_.type, layer_kind{t.form}});
    auto const options = written();
    peft_writer adapter(o_.out, infos, options, base_);
    std::optional<peft_writer> start;
    std::optional<output_file> table;
    if (gradients_) table.emplace(o_.out / "coverage.csv", o_.may_replace);
    if (o_.anchored()) {
      folders.make(o_.out / "start");
      start.emplace(o_.out / "start", infos, options, base_);
      if (!base_.is_single_file()) folders.make(o_.anchored_base);
      rewrite_base(adapter, *start);
      left_behind_ = copy_companions(base_, o_.anchored_base, o_.may_replace, {}, {o_.out});
      auto const& unlisted = base_.left_aside();
      left_behind_.insert(left_behind_.end(), unlisted.begin(), unlisted.end());
      start->commit();
    } else {
      progress bar("layers", planned_.size());
      for (auto& one : planned_) {
        adapter.write(start_of_layer(one));
        bar.step();
      }
    }
    adapter.commit();
    if (table) {
      table->write(0, csv());
      table->commit();
    }
    std::vector<layer_report> reports;
    for (auto const& one : planned_) reports.push_back(one.report);
    return reports;
  }
  /// Modules that got no adapter, because they have no gradient.
  std::vector<std::string> const& skipped() const { return skipped_; }
  /// What of the base the anchored one has not: other weights beside its files, tensors that its index does not list.
  std::vector<std::string> const& left_behind() const { return left_behind_; }

 private:
  /// An anchored base holds the changed embedding, and a head that is tied to it would change as well.
  void require_untied() const {
    if (!o_.anchored()) return;
    touched_tensors touched;
    for (auto const& one : planned_) {
      auto const w = base_[one.layer.place.weight];
      touched[one.layer.place.weight] = {w.rows(), w.cols()};
    }
    if (auto const pair = find_tied_pair(base_, base_facts(base_), touched))
      raise<value_error>("targets", pair->embedding,
                         "tied to the model's head, which the anchored base would change too",
                         "a base that is not tied (tie_word_embeddings), or --relative-to original");
  }
  /// Cheap beside the SVDs, and tells all that is wrong at once.
  void look_at_gradients() {
    layer_problems problems;
    progress bar("looking at gradients", planned_.size());
    std::vector<planned> live;
    for (auto& one : planned_) {
      auto const& [t, from, report] = one;
      double dy_energy = 0, x_energy = 0;
      auto const energy = [&](std::string const& name) {
        auto const tensor = (*gradients_)[name];
        matrix<float, B> memory;
        scratch<B> temporary(be_);
        auto const cell = temporary.template matrix<double>(1, 1);
        sum_of_squares(be_, float_view(be_, tensor, memory), cell);
        gradients_->forget(name);
        return read_scalar(be_, cell);
      };
      if (auto const& whole = from.whole; !whole.empty()) dy_energy = x_energy = energy(whole);
      for (auto const& [dy, x] : from.pairs) {
        dy_energy += energy(dy);
        x_energy += energy(x);
      }
      if (!is_finite(dy_energy + x_energy)) problems.add(t.module, "its gradient is not finite (NaN or infinity)");
      else if (dy_energy != 0 && x_energy != 0) live.push_back(std::move(one));
      else if (o_.skip_zero_gradients) skipped_.push_back(t.module);
      else problems.add(t.module, "its gradient is zero (--skip-zero-gradients leaves such layers out)");
      bar.step();
    }
    problems.raise_any<numeric_error>();
    planned_ = std::move(live);
  }

  peft_options written() const {
    std::map<std::string, weight_place> places;
    bool in_by_out = false;
    for (auto const& one : planned_) {
      places[one.layer.module] = one.layer.place;
      in_by_out = in_by_out || one.layer.place.in_by_out;
    }
    auto const& named = !o_.base_name.empty() ? o_.base_name : (o_.anchored() ? o_.anchored_base : o_.base).string();
    return {.base = o_.relative_to,
            .rank_stable = o_.stable_ranks(),
            .base_model = named,
            .task_type = o_.task_type,
            .fan_in_fan_out = in_by_out,
            .module_prefix = prefix_,
            .places = std::move(places),
            .may_replace = o_.may_replace};
  }

  /// The base's files with W - s*B0*A0, every layer started when its weight's turn comes.
  void rewrite_base(peft_writer& adapter, peft_writer& start) {
    progress bar("tensors", base_.size());
    std::map<std::string, planned*> by_weight;
    merge_options options{.may_replace = o_.may_replace, .progress = [&](index_t, index_t) { bar.step(); }};
    for (auto& one : planned_) {
      by_weight[one.layer.place.weight] = &one;
      options.places[one.layer.module] = one.layer.place;
    }
    auto const change_of = [&](std::string const& weight) {
      std::vector<adapter_record> change;
      if (auto const found = by_weight.find(weight); found != by_weight.end()) {
        auto const record = start_of_layer(*found->second);
        adapter.write(record);
        start.write(record);
        change.push_back(loraga::start_of(record));
      }
      return change;
    };
    write_changed_model(be_, base_, o_.anchored_base, change_of, -1, options);
  }

  adapter_record start_of_layer(planned& one) {
    auto record = with_initialiser(o_, one.layer, [&](auto const& init) { return start_with(one, init); });
    round_to(record, o_.type);
    return record;
  }

  template <class I>
  adapter_record start_with(planned& one, I const& init) {
    auto& [t, from, report] = one;
    using adapter_type = lora<float, B>;
    adapter_type adapter(be_, t.out, t.in, o_.rank, constant_scaling{report.scale});
    automatic_svd const svd{o_.quality, o_.seed};
    auto const begin = [&]<class G, class Svd>(G const* gradient, weight_view w, Svd const& how) {
      layer<adapter_type, weight_view, G> const list[] = {{&adapter, w, gradient, one.layer.module}};
      initialise(be_, std::span<layer<adapter_type, weight_view, G> const>(list), init, how, frozen_pair_anchor{});
    };
    matrix<float, B> memory;
    auto const stored = base_[t.place.weight];
    auto const weight = [&, &t = t] {
      auto const w = float_view(be_, stored, memory);
      return t.is_transposed() ? w.transposed() : w;
    };
    if constexpr (std::is_same_v<typename I::needs, needs_gradient>) {
      bool const needs_weight = init.clip || init.weight_triplets(o_.rank) > 0;
      auto const gradient = mean_gradient(be_, *gradients_, t, from);
      begin(&gradient, needs_weight ? weight() : weight_view{}, measured_svd{svd, &report.coverage});
    } else if constexpr (std::is_same_v<typename I::needs, needs_weight>) {
      begin(static_cast<no_gradient const*>(nullptr), weight(), svd);
    } else {
      begin(static_cast<no_gradient const*>(nullptr), weight_view{}, no_svd{});
    }
    base_.owner(t.place.weight).forget(stored);
    auto record = take_record(be_, adapter, t.module);
    record.layer = {t.form};
    return record;
  }

  std::string csv() const {
    std::string text = "module,out,in,rank,scale,micro_batches,coverage\n";
    for (auto const& [t, from, r] : planned_) {
      char numbers[80];
      std::snprintf(numbers, sizeof numbers, ",%.17g,%zu,%.17g\n", r.scale, r.batches, r.coverage);
      text +=
          r.module + "," + std::to_string(r.out) + "," + std::to_string(r.in) + "," + std::to_string(r.rank) + numbers;
    }
    return text;
  }
};

}  // namespace adapters
