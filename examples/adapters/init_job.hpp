#pragma once
#include <loraga/adapter/lora.hpp>
#include <loraga/diagnostics/spectrum.hpp>
#include <loraga/init/gaussian.hpp>
#include <loraga/init/kaiming.hpp>
#include <loraga/init/orthogonal.hpp>
#include <loraga/init/pissa.hpp>
#include <loraga/initialise.hpp>
#include <loraga/io/merge.hpp>

#include "init_options.hpp"
#include "layers.hpp"
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

/// f(initialiser): its random numbers are this layer's own.
template <class F>
decltype(auto) with_initialiser(init_options const& o, std::uint64_t layer, F&& f) {
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
  B& be_;
  init_options o_;
  safetensors_model base_;
  std::optional<safetensors_model> gradients_;
  std::string prefix_;
  std::vector<target> targets_;
  std::vector<layer_report> reports_;

 public:
  /// Opens the files and finds out what can be known from names and shapes.
  /// errors  all that check_options and find_targets refuse; format_error naming all layers that cannot be started
  init_job(B& be, init_options options) : be_(be), o_(std::move(options)), base_(o_.base) {
    check_options(o_);
    if (o_.from_gradients()) gradients_.emplace(o_.gradients);
    prefix_ = o_.module_prefix.value_or(o_.family_prefix);
    for (auto const& name : base_.names())
      if (!o_.module_prefix && name.starts_with(o_.family_prefix)) prefix_.clear();
    targets_ = find_targets(base_, o_.targets, prefix_, o_.fan_in_fan_out);
    layer_problems problems;
    for (auto& t : targets_) try {
        double const s = o_.stable_ranks() ? rank_stable_scaling{o_.alpha}.scale(t.out, t.in, o_.rank)
                                           : classic_scaling{o_.alpha}.scale(t.out, t.in, o_.rank);
        with_initialiser(o_, t.number, [&](auto const& init) { init.check(t.out, t.in, o_.rank, s, true); });
        with_float_type(base_[t.weight].type, base_[t.weight].label, "dtype", [](auto) {});
        if (gradients_) t.gradient = find_gradient(*gradients_, t, o_.fan_in_fan_out);
        reports_.push_back({t.module, t.out, t.in, o_.rank, s, t.gradient.batches(), NAN});
      } catch (error const& e) {
        problems.add(t.module, e.what());
      }
    problems.raise_any<format_error>();
  }

  /// Makes the files. Either all of them appear, whole, or none does.
  /// errors  numeric_error naming all layers whose gradients are zero or not finite, before anything is written;
  ///         file_error; interrupted
  std::vector<layer_report> run() {
    if (gradients_) look_at_gradients();
    made_folders folders;
    folders.make(o_.out);
    std::vector<record_info> infos;
    for (auto const& r : reports_)
      infos.push_back({r.module, r.scale, r.out, r.in, r.rank, o_.has_anchor() ? r.rank : 0, o_.type});
    auto const options = written();
    peft_writer adapter(o_.out, infos, options, base_);
    std::optional<peft_writer> start;
    std::optional<output_file> table;
    if (gradients_) table.emplace(o_.out / "coverage.csv", o_.may_replace);
    if (o_.anchored()) {
      folders.make(o_.out / "start");
      start.emplace(o_.out / "start", infos, options, base_);
      if (is_folder(base_)) folders.make(o_.anchored_base);
      rewrite_base(adapter, *start);
      if (is_folder(base_)) copy_companions(base_, o_.anchored_base, o_.may_replace);
      start->commit();
    } else {
      progress bar("layers", targets_.size());
      for (auto const& t : targets_) {
        adapter.write(start_of_layer(t));
        bar.step();
      }
    }
    adapter.commit();
    if (table) {
      table->write(0, csv());
      table->commit();
    }
    return reports_;
  }

 private:
  /// Cheap beside the SVDs, and tells all that is wrong at once.
  void look_at_gradients() {
    layer_problems problems;
    progress bar("looking at gradients", targets_.size());
    for (auto const& t : targets_) {
      double dy_energy = 0, x_energy = 0;
      auto const energy = [&](std::string const& name) {
        auto const tensor = (*gradients_)[name];
        matrix<float, B> memory;
        scratch<B> temporary(be_);
        auto const cell = temporary.template matrix<double>(1, 1);
        sum_of_squares(be_, float_view(be_, tensor, memory), cell);
        gradients_->owner(name).forget(tensor);
        return read_scalar(be_, cell);
      };
      if (auto const& whole = t.gradient.whole; !whole.empty()) dy_energy = x_energy = energy(whole);
      for (auto const& [dy, x] : t.gradient.pairs) {
        dy_energy += energy(dy);
        x_energy += energy(x);
      }
      if (!is_finite(dy_energy + x_energy)) problems.add(t.module, "its gradient is not finite (NaN or infinity)");
      else if (dy_energy == 0 || x_energy == 0) problems.add(t.module, "its gradient is zero");
      bar.step();
    }
    problems.raise_any<numeric_error>();
  }

  peft_options written() const {
    auto const& named = !o_.base_name.empty() ? o_.base_name : (o_.anchored() ? o_.anchored_base : o_.base).string();
    return {.base = o_.relative_to,
            .rank_stable = o_.stable_ranks(),
            .base_model = named,
            .task_type = o_.task_type,
            .fan_in_fan_out = o_.fan_in_fan_out,
            .module_prefix = prefix_,
            .may_replace = o_.may_replace};
  }

  /// The base's files with W - s*B0*A0, every layer started when its weight's turn comes.
  void rewrite_base(peft_writer& adapter, peft_writer& start) {
    progress bar("tensors", base_.names().size());
    std::map<std::string, target const*> by_weight;
    for (auto const& t : targets_) by_weight[t.weight] = &t;
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
    write_changed_model(be_, base_, o_.anchored_base, change_of, -1,
                        {.fan_in_fan_out = o_.fan_in_fan_out,
                         .module_prefix = prefix_,
                         .may_replace = o_.may_replace,
                         .progress = [&](index_t, index_t) { bar.step(); }});
  }

  adapter_record start_of_layer(target const& t) {
    auto record = with_initialiser(o_, t.number, [&](auto const& init) { return start_with(t, init); });
    round_to(record, o_.type);
    return record;
  }

  template <class I>
  adapter_record start_with(target const& t, I const& init) {
    auto& report = reports_[t.number];
    using adapter_type = lora<float, B>;
    adapter_type adapter(be_, t.out, t.in, o_.rank, constant_scaling{report.scale});
    automatic_svd const svd{o_.quality, o_.seed};
    auto const begin = [&]<class G, class Svd>(G const* gradient, weight_view w, Svd const& how) {
      layer<adapter_type, weight_view, G> const one[] = {{&adapter, w, gradient, t.module}};
      initialise(be_, std::span<layer<adapter_type, weight_view, G> const>(one), init, how, frozen_pair_anchor{});
    };
    matrix<float, B> memory;
    auto const weight = [&] {
      auto const w = float_view(be_, base_[t.weight], memory);
      return o_.fan_in_fan_out ? w.transposed() : w;
    };
    if constexpr (std::is_same_v<typename I::needs, needs_gradient>) {
      bool const needs_weight = init.clip || init.weight_triplets(o_.rank) > 0;
      auto const gradient = mean_gradient(be_, *gradients_, t, o_.fan_in_fan_out);
      begin(&gradient, needs_weight ? weight() : weight_view{}, measured_svd{svd, &report.coverage});
    } else if constexpr (std::is_same_v<typename I::needs, needs_weight>) {
      begin(static_cast<no_gradient const*>(nullptr), weight(), svd);
    } else {
      begin(static_cast<no_gradient const*>(nullptr), weight_view{}, no_svd{});
    }
    base_.owner(t.weight).forget(base_[t.weight]);
    return take_record(be_, adapter, t.module);
  }

  std::string csv() const {
    std::string text = "module,out,in,rank,scale,micro_batches,coverage\n";
    for (auto const& r : reports_) {
      char numbers[80];
      std::snprintf(numbers, sizeof numbers, ",%.17g,%zu,%.17g\n", r.scale, r.batches, r.coverage);
      text +=
          r.module + "," + std::to_string(r.out) + "," + std::to_string(r.in) + "," + std::to_string(r.rank) + numbers;
    }
    return text;
  }
};

}  // namespace adapters
