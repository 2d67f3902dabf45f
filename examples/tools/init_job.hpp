#pragma once
#include <loraga/io/tied_weights.hpp>

#include "init_checks.hpp"
#include "init_ranks.hpp"
#include "progress.hpp"

// Adapters for a model on disk, layer by layer: memory for one layer, whatever the model's size.

namespace tools {

struct layer_report {
  std::string module;
  index_t out = 0, in = 0, rank = 0;
  double scale = 0;
  std::size_t batches = 0;  ///< of gradients or inputs
  /// Share of the energy of what was factored that the start's directions hold, of the inputs' variance with EVA; NaN
  /// where nothing was factored.
  double coverage = NAN;
};

class init_job {
  /// A target, and what is known of it and of its start.
  struct planned {
    target layer;
    capture gradient, input;
    layer_report report;
  };
  cpu& be_;
  init_options o_;
  base_model base_;
  std::optional<captured_files> gradients_, inputs_;
  std::string prefix_;
  std::vector<planned> planned_;
  std::vector<std::string> skipped_, rankless_, left_behind_;

 public:
  /// Opens the files and finds out what can be known from names and shapes.
  /// errors  all that check_options and find_targets refuse; format_error naming all layers that cannot be started
  init_job(cpu& be, init_options options) : be_(be), o_((check_options(options), std::move(options))), base_(o_.base) {
    if (o_.anchored() && !base_.in_safetensors())
      raise<value_error>("loraga_init", "--relative-to", "anchored, for a GGUF base, which is not written",
                         "original: the adapter of rank 2r beside the base as it is");
    if (o_.fan_in_fan_out.value_or(false) && !base_.in_safetensors())
      raise<value_error>("loraga_init", "--fan-in-fan-out", "given for a GGUF base",
                         "nothing: its weights lie out x in");
    if (o_.needs_gradients()) gradients_.emplace(o_.gradients);
    if (o_.needs_inputs()) inputs_.emplace(o_.inputs);
    prefix_ = o_.module_prefix.value_or(o_.renames.empty() ? o_.family_prefix : "");
    for (auto const& name : base_.names())
      if (!o_.module_prefix && name.starts_with(o_.family_prefix)) prefix_.clear();
    layer_problems problems;
    for (auto& t :
         find_targets(base_, o_.targets, {o_.renames, prefix_, o_.embeddings}, o_.fan_in_fan_out, o_.conv1d_family))
      try {
        if (o_.rule() == rank_rule::same)
          check_start(o_, t, o_.rank, scale_of(o_, o_.rank, static_cast<double>(o_.rank)));
        auto const w = base_[t.place.weight];
        with_gguf_block(w.facts(), w.label(), [](auto) {});
        planned one{t, {}, {}, {t.module, t.out, t.in}};
        if (gradients_) one.gradient = find_gradient(*gradients_, t);
        if (inputs_) one.input = find_inputs(*inputs_, t);
        if (gradients_ && one.gradient.empty()) missing(problems, t, "gradient is", *gradients_);
        else if (inputs_ && one.input.empty()) missing(problems, t, "inputs are", *inputs_);
        else {
          one.report.batches = gradients_ ? one.gradient.batches() : inputs_ ? one.input.batches() : 0;
          planned_.push_back(std::move(one));
        }
      } catch (error const& e) {
        problems.add(t.module, e.what());
      }
    problems.raise_any<format_error>();
    require_untied();
  }

  /// Makes the files. Either all of them appear, whole, or none does.
  /// errors  numeric_error naming all layers whose gradients or inputs are zero or not finite, value_error for ranks
  ///         that cannot be, both before anything is written; file_error; interrupted
  std::vector<layer_report> run() {
    if (gradients_ || inputs_) look_at_captures();
    require_layers();
    set_ranks();
    made_folders folders;
    folders.make(o_.out);
    std::vector<record_info> infos;
    for (auto const& one : planned_) {
      auto const& r = one.report;
      infos.push_back(
          {r.module, r.scale, r.out, r.in, r.rank, o_.has_anchor() ? r.rank : 0, o_.type, layer_kind{one.layer.form}});
    }
    auto const options = written();
    auto const* files = base_.in_safetensors();
    peft_writer adapter = files ? peft_writer(o_.out, infos, options, *files)
                                : peft_writer(o_.out, infos, options, unchecked_names{});  // they are the base's own
    output_file table(o_.out / "layers.csv", o_.may_replace);
    std::optional<peft_writer> start;
    if (o_.anchored()) {
      folders.make(o_.out / "start");
      start.emplace(o_.out / "start", infos, options, *files);
      if (!files->is_single_file()) folders.make(o_.anchored_base);
      rewrite_base(*files, adapter, *start);
      left_behind_ = copy_companions(*files, o_.anchored_base, o_.may_replace, {}, {o_.out});
      auto const& unlisted = files->left_aside();
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
    table.write(0, csv());
    table.commit();
    std::vector<layer_report> reports;
    for (auto const& one : planned_) reports.push_back(one.report);
    return reports;
  }
  /// Modules that got no adapter, because they have no gradient or inputs.
  std::vector<std::string> const& skipped() const { return skipped_; }
  /// Modules that got no adapter, because they got no rank.
  std::vector<std::string> const& rankless() const { return rankless_; }
  /// What of the base the anchored one has not: other weights beside its files, tensors that its index does not list.
  std::vector<std::string> const& left_behind() const { return left_behind_; }

 private:
  void missing(layer_problems& problems, target const& t, char const* what, captured_files const& files) {
    if (o_.skip_unreached) skipped_.push_back(t.module);
    else
      problems.add(t.module, std::string("its ") + what + " missing; " + files.path() + " holds " + files.examples());
  }
  void require_layers() const {
    if (!planned_.empty()) return;
    auto const& files = gradients_ ? *gradients_ : *inputs_;
    throw numeric_error(std::string("no layer has ") + (gradients_ ? "a gradient; " : "inputs; ") + files.path() +
                        " holds " + files.examples());
  }
  /// An anchored base holds the changed embedding, and a head that is tied to it would change as well.
  void require_untied() const {
    if (!o_.anchored()) return;
    auto const& files = *base_.in_safetensors();
    touched_tensors touched;
    for (auto const& one : planned_) {
      auto const w = files[one.layer.place.weight];
      touched[one.layer.place.weight] = {w.rows(), w.cols()};
    }
    if (auto const pair = find_tied_pair(files, base_facts(files), touched))
      raise<value_error>("targets", pair->embedding,
                         "tied to the model's head, which the anchored base would change too",
                         "a base that is not tied (tie_word_embeddings), or --relative-to original");
  }

  double energy(captured_files const& files, std::string const& name) {
    auto const tensor = files[name];
    matrix<float, cpu> memory;
    scratch<cpu> temporary(be_);
    auto const cell = temporary.template matrix<double>(1, 1);
    sum_of_squares(be_, float_view(be_, tensor, memory), cell);
    files.forget(name);
    return read_scalar(be_, cell);
  }
  /// Cheap beside the SVDs, and tells all that is wrong at once.
  void look_at_captures() {
    layer_problems problems;
    progress bar("looking at what was captured", planned_.size());
    std::vector<planned> live;
    for (auto& one : planned_) {
      double whole = 1, back = 1, forth = 1;
      if (auto const& name = one.gradient.whole; !name.empty()) whole = energy(*gradients_, name);
      if (!one.gradient.pairs.empty()) back = forth = 0;
      for (auto const& [dy, x] : one.gradient.pairs) {
        back += energy(*gradients_, dy);
        forth += energy(*gradients_, x);
      }
      double inputs = one.input.empty() ? 1 : 0;
      for (auto const& [none, x] : one.input.pairs) inputs += energy(*inputs_, x);
      bool const finite = is_finite(whole + back + forth), zero = whole == 0 || back == 0 || forth == 0;
      std::string const what = !finite || zero ? "its gradient is " : "its inputs are ";
      if (!finite || !is_finite(inputs)) problems.add(one.layer.module, what + "not finite (NaN or infinity)");
      else if (!zero && inputs != 0) live.push_back(std::move(one));
      else if (o_.skip_unreached) skipped_.push_back(one.layer.module);
      else problems.add(one.layer.module, what + "zero (--skip-unreached leaves such layers out)");
      bar.step();
    }
    problems.raise_any<numeric_error>();
    planned_ = std::move(live);
  }

  layer_sources sources(planned const& one) const {
    return {base_, gradients_ ? &*gradients_ : nullptr, inputs_ ? &*inputs_ : nullptr, one.gradient, one.input};
  }
  /// Every layer's rank and s. Layers of rank 0 go.
  void set_ranks() {
    chosen_ranks chosen{std::vector<index_t>(planned_.size(), o_.rank), static_cast<double>(o_.rank)};
    if (o_.rule() != rank_rule::same) {
      std::vector<measured_layer> measured;
      progress bar("measuring for ranks", planned_.size());
      for (auto const& one : planned_) {
        measured.push_back(measure(be_, o_, one.layer, sources(one)));
        bar.step();
      }
      chosen = choose_ranks(o_, measured);
    }
    layer_problems problems;
    std::vector<planned> kept;
    for (std::size_t i = 0; i < planned_.size(); ++i) {
      auto& one = planned_[i];
      index_t const rank = chosen.ranks[i];
      if (rank == 0) {
        rankless_.push_back(one.layer.module);
        continue;
      }
      one.report.rank = rank;
      one.report.scale = scale_of(o_, rank, chosen.mean);
      try {
        check_start(o_, one.layer, rank, one.report.scale);
      } catch (error const& e) {
        problems.add(one.layer.module, e.what());
      }
      kept.push_back(std::move(one));
    }
    problems.raise_any<format_error>();
    if (kept.empty()) throw value_error("no layer gets a rank; choose a larger --rank");
    planned_ = std::move(kept);
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
  void rewrite_base(safetensors_model const& files, peft_writer& adapter, peft_writer& start) {
    progress bar("tensors", files.size());
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
    write_changed_model(be_, files, o_.anchored_base, change_of, -1, options);
  }

  adapter_record start_of_layer(planned& one) {
    auto& r = one.report;
    return start_layer(be_, o_, one.layer, r.rank, r.scale, sources(one), r.coverage);
  }

  std::string csv() const {
    std::string text = "module,out,in,rank,scale,micro_batches,coverage\n";
    for (auto const& one : planned_) {
      auto const& r = one.report;
      char numbers[80];
      std::snprintf(numbers, sizeof numbers, ",%.17g,%zu,%.17g\n", r.scale, r.batches, r.coverage);
      text +=
          r.module + "," + std::to_string(r.out) + "," + std::to_string(r.in) + "," + std::to_string(r.rank) + numbers;
    }
    return text;
  }
};

}  // namespace tools
