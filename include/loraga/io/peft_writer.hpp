#pragma once
#include <loraga/io/peft_settings.hpp>
#include <loraga/io/peft_tensors.hpp>
#include <loraga/io/record_algebra.hpp>
#include <loraga/io/safetensors_writer.hpp>
#include <optional>
#include <set>

namespace loraga {

/// Which weights an adapter's A and B are to be added to, where it was anchored (LoRA-GA, PiSSA).
enum class peft_base {
  original,  ///< the model as it was: rank 2r, [A; A0] and [B, -B0]
  anchored   ///< W - s*B0*A0, which save_anchored_base writes: rank r
};

/// For whom the files are written.
enum class peft_profile {
  faithful,  ///< r, alpha, rsLoRA and patterns as trained: for going on in PEFT
  portable   ///< one rank, lora_alpha = r, s folded into B: for readers that know lora_alpha and r only (vLLM,
             ///< llama.cpp)
};

/// How an adapter is written.
struct peft_options {
  peft_profile profile = peft_profile::faithful;    ///< for whom
  std::optional<peft_base> base = {};               ///< must be named where an adapter is anchored
  bool rank_stable = false;                         ///< faithful: write alpha for s = alpha/sqrt(r)
  std::string base_model = {};                      ///< name or path of the base; must be named for peft_base::anchored
  std::string task_type = {};                       ///< CAUSAL_LM, SEQ_2_SEQ_LM, FEATURE_EXTRACTION, or empty
  double dropout = 0;                               ///< lora_dropout, for going on in PEFT
  bool fan_in_fan_out = false;                      ///< the base stores its weights in x out (GPT-2's Conv1D)
  std::string module_prefix = {};                   ///< what module names have before the names in the base's files
  std::map<std::string, weight_place> places = {};  ///< in the base, of modules for which these two are not right
  overwrite may_replace = overwrite::no;
  /// Parameters to save whole (load_peft's, or a head of your own); they are read while the writer is made.
  std::vector<whole_parameter> whole = {};
  /// What the configuration calls modules_to_save; if it is not said, the modules of `whole`.
  std::optional<std::vector<std::string>> modules_to_save = {};
  std::string bias = "none";         ///< none, all or lora_only, for `whole` that holds biases
  bool ensure_weight_tying = false;  ///< of PEFT's configuration: an embedding's adapter is its tied head's as well
};

/// Says that nobody looks whether modules exist in the base: PEFT ignores names it does not know without a word.
struct unchecked_names {};

/// Writes an adapter as PEFT does, adapter_model.safetensors and adapter_config.json in `folder`, record by record and
/// in any order. The folder is made if it is missing. Each file appears whole or not at all, with `commit`, the
/// configuration last.
/// `base` is the model to look names and shapes up in, or unchecked_names.
/// Records with a magnitude become a DoRA (use_dora), such with E AdaLoRA's form; the portable profile folds E into B.
/// errors  value_error for no records, a task_type that wants a head where none is saved whole, a module given twice or
///         unknown to the base, an anchored record without a named base, an anchored base without a name, records of
///         several methods, DoRA's in the portable profile, scales that AdaLoRA's form does not have; shape_error;
///         file_error (EEXIST unless overwrite::yes)
/// source  github.com/huggingface/peft 0.21
class peft_writer {
  peft_options options_;
  std::map<std::string, record_info> expected_;  // by module, as `write` will get them
  index_t rank_ = 0;                             // the one rank of the portable profile
  std::optional<output_file> config_;
  std::optional<safetensors_writer> weights_;

 public:
  template <class Base>
  peft_writer(std::filesystem::path const& folder, std::vector<record_info> records, peft_options options,
              Base const& base)
      : options_(std::move(options)) {
    static_assert(std::is_same_v<Base, safetensors_model> || std::is_same_v<Base, unchecked_names>);
    safetensors_model const* model = nullptr;
    if constexpr (std::is_same_v<Base, safetensors_model>) model = &base;
    if (records.empty()) raise<value_error>("save_peft", "records", "empty", "at least one");
    auto const& task = options_.task_type;
    bool const headless = task.empty() || task == "CAUSAL_LM" || task == "SEQ_2_SEQ_LM" || task == "FEATURE_EXTRACTION";
    if (!headless && options_.whole.empty())
      raise<value_error>(
          "save_peft", "task_type", task,
          "CAUSAL_LM, SEQ_2_SEQ_LM, FEATURE_EXTRACTION or none: PEFT wants a head in the file for others");
    for (auto& r : records) {
      if (!expected_.emplace(r.module, r).second)
        raise<value_error>("save_peft", "module", "'" + r.module + "', twice", "each once");
      auto checked = r;
      checked.e = r.e && !portable();  // a LoRA says what is a convolution
      if (model) check_against_base(checked, *model, place_of(options_, r.module), "save_peft");
      bool const anchored = r.start_rank > 0;
      if (anchored && !options_.base)
        raise<value_error>("save_peft(" + r.module + ")", "base", "not named, and the adapter is anchored",
                           "peft_base::original (rank 2r) or peft_base::anchored");
      if (anchored && drops_start() && options_.base_model.empty())
        raise<value_error>("save_peft", "base_model", "empty",
                           "the name of the anchored base, without which A and B are wrong");
      r.rank += drops_start() ? 0 : r.start_rank;
      r.start_rank = 0;
      rank_ = std::max(rank_, r.rank);
    }
    require_one_method(records);
    if (portable())
      for (auto& r : records)
        r = {r.module, 1, r.out, r.in, rank_, 0, r.scale == 1 && !r.e ? r.type : dtype::F32, r.layer, false, false};
    open(folder, records, model);
  }

  /// errors  value_error for a record that was not announced, or not like this; state_error if it was written already;
  ///         numeric_error, shape_error as check_record; file_error
  void write(adapter_record record) {
    check_record(record, "save_peft");
    auto const announced = expected_.find(record.module);
    if (announced == expected_.end() || announced->second != info_of(record))
      raise<value_error>("save_peft(" + record.module + ")", "record", "not as announced",
                         "the module, scale, shape, ranks and type given to peft_writer");
    if (drops_start()) record.start_a = record.start_b = {};
    if (record.anchored()) record = widened(record);
    if (portable()) record = folded(record, rank_);
    for (auto const& t : format::peft_tensors(info_of(record)))
      with_float_type(t.type, record.module, "type", [&]<class T>(T) {
        std::vector<T> values;
        for (float const x : format::part_of(record, t.part).values) values.push_back(static_cast<T>(x));
        weights_->write(key(record.module, t.suffix), std::as_bytes(std::span(values)));
      });
  }

  /// errors  state_error if a record is missing; file_error
  void commit() {
    weights_->commit();
    config_->commit();
  }

 private:
  bool portable() const { return options_.profile == peft_profile::portable; }
  bool drops_start() const { return options_.base == peft_base::anchored; }
  static std::string key(std::string const& module, std::string_view suffix) {
    return format::peft_prefix + module + std::string(suffix);
  }
  /// One file is one method's: all layers of a DoRA have a magnitude, all of AdaLoRA's have E.
  void require_one_method(std::vector<record_info> const& records) const {
    auto const& first = records[0];
    for (auto const& r : records) {
      std::string const where = "save_peft(" + r.module + ")";
      if (portable() && r.magnitude)
        raise<value_error>(where, "profile", "portable, and the record is DoRA's",
                           "peft_profile::faithful, or merged weights (merge_into_model)");
      if (r.magnitude != first.magnitude || (r.e != first.e && !portable()))
        raise<value_error>(where, "record", "of another method than " + first.module,
                           "a magnitude, or E, in all records or in none (see without_e)");
    }
  }

  void open(std::filesystem::path const& folder, std::vector<record_info> const& records,
            safetensors_model const* model) {
    peft_config c;
    c.rank_stable = options_.rank_stable && !portable() && !records[0].e;
    c.dropout = options_.dropout;
    c.fan_in_fan_out = options_.fan_in_fan_out;
    c.base_model = options_.base_model;
    c.task_type = options_.task_type;
    c.r = rank_;
    c.alpha = static_cast<double>(rank_);
    c.dora = records[0].magnitude;
    c.adalora = records[0].e;
    if (c.adalora) format::set_adalora_scales(c, records);
    else if (!portable()) format::set_scales(c, records);
    c.targets = format::targets_of(records, options_, model);
    c.bias = options_.bias;
    c.ensure_weight_tying = options_.ensure_weight_tying;
    c.modules_to_save = options_.modules_to_save ? *options_.modules_to_save : whole_modules();
    std::string const config = peft_config_text(c);

    make_folder(folder);
    config_.emplace(folder / "adapter_config.json", options_.may_replace);
    config_->write(0, config);
    std::vector<tensor_spec> specs;
    for (auto const& r : records)
      for (auto const& t : format::peft_tensors(r)) specs.push_back({key(r.module, t.suffix), t.type, t.shape});
    for (auto const& w : options_.whole) specs.push_back({whole_key(w), w.tensor.type, w.tensor.shape});
    weights_.emplace(folder / "adapter_model.safetensors", specs, std::map<std::string, std::string>{{"format", "pt"}},
                     options_.may_replace);
    for (auto const& w : options_.whole) weights_->write(whole_key(w), w.tensor.bytes);
  }
  static std::string whole_key(whole_parameter const& w) {
    auto const last = w.name.rfind('.') + 1;  // 0 where there is no dot
    return format::peft_prefix + w.name.substr(0, last) + (w.base_copy ? "base_layer." : "") + w.name.substr(last);
  }
  std::vector<std::string> whole_modules() const {
    std::set<std::string> modules;
    for (auto const& w : options_.whole) {
      bool const trained_bias = options_.bias != "none" && w.name.ends_with(".bias");
      if (!w.base_copy && !trained_bias) modules.insert(w.name.substr(0, w.name.rfind('.')));
    }
    return {modules.begin(), modules.end()};
  }
};

/// Writes a whole adapter at once; see peft_writer.
/// errors  as peft_writer; shape_error, numeric_error as check_record
template <class Base>
void save_peft(std::filesystem::path const& folder, std::vector<adapter_record> const& records,
               peft_options const& options, Base const& base) {
  std::vector<record_info> infos;
  for (auto const& r : records) {
    check_record(r, "save_peft");
    infos.push_back(info_of(r));
  }
  peft_writer writer(folder, std::move(infos), options, base);
  for (auto const& r : records) writer.write(r);
  writer.commit();
}

}  // namespace loraga
