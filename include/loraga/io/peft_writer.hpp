#pragma once
#include <loraga/io/adapter_record.hpp>
#include <loraga/io/model.hpp>
#include <loraga/io/peft_config.hpp>
#include <loraga/io/safetensors_writer.hpp>
#include <optional>

namespace loraga {

/// Which weights an adapter's A and B are to be added to, where it was anchored (LoRA-GA, PiSSA).
enum class peft_base {
  original,  ///< the model as it was: rank 2r, [A; A0] and [B, -B0]
  anchored   ///< W - s*B0*A0, which save_anchored_base writes: rank r
};

enum class peft_profile {
  faithful,  ///< r, alpha, rsLoRA and patterns as trained: for going on in PEFT
  portable   ///< one rank, lora_alpha = r, s folded into B: for readers that know lora_alpha and r only (vLLM,
             ///< llama.cpp)
};

struct peft_options {
  peft_profile profile = peft_profile::faithful;
  std::optional<peft_base> base = {};  ///< must be named where an adapter is anchored
  bool rank_stable = false;            ///< faithful: write alpha for s = alpha/sqrt(r)
  std::string base_model = {};         ///< name or path of the base; must be named for peft_base::anchored
  std::string task_type = {};          ///< CAUSAL_LM, SEQ_2_SEQ_LM, FEATURE_EXTRACTION, or empty
  double dropout = 0;
  bool fan_in_fan_out = false;     ///< the base stores its weights in x out (GPT-2's Conv1D)
  std::string module_prefix = {};  ///< what module names have before the names in the base's files
  overwrite may_replace = overwrite::no;
};

/// Says that nobody looks whether modules exist in the base: PEFT ignores names it does not know without a word.
struct unchecked_names {};

/// What the files say of a record beside its numbers: known before there are any.
struct record_info {
  std::string module;
  double scale = 1;
  index_t out = 0, in = 0, rank = 0;
  index_t start_rank = 0;  ///< of A0 and B0; 0 where it is not anchored
  dtype type = dtype::F32;

  bool operator==(record_info const&) const = default;
};
inline record_info info_of(adapter_record const& r) {
  return {r.module, r.scale, r.b.rows, r.a.cols, r.rank(), r.start_a.rows, r.type};
}

namespace format {

inline std::string const peft_prefix = "base_model.model.";

/// alpha such that alpha/r, or alpha/sqrt(r), is s to the last bit; a short number where one does it.
inline double alpha_of(double scale, index_t rank, bool rank_stable) {
  double const divisor = rank_stable ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank);
  double const exact = scale * divisor;
  char text[40];
  std::snprintf(text, sizeof text, "%.12g", exact);
  double const shorter = std::strtod(text, nullptr);
  return shorter / divisor == scale ? shorter : exact;
}

/// A name as an expression for itself.
inline std::string escaped(std::string_view name) {
  std::string text;
  for (char const c : name) {
    if (std::string_view("^$\\.+*?()[]{}|").find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text;
}

/// A key that fits this module and no other: its name, or the same as an anchored expression.
inline std::string pattern_key(std::string const& module, std::vector<std::string> const& all) {
  constexpr std::string_view special = "^$\\+*?()[]{}|";
  if (module.find_first_of(special) == module.npos) {
    module_pattern const plain(module, "save_peft");
    if (std::all_of(all.begin(), all.end(), [&](auto const& m) { return m == module || !plain.fits_end(m); }))
      return module;
  }
  return "^" + escaped(module);
}

/// r and alpha that most modules share, and patterns for the others.
inline void set_scales(peft_config& c, std::vector<record_info> const& records) {
  auto const commonest = [&](auto const& of) {
    std::map<decltype(of(records[0])), std::size_t> counts;
    for (auto const& r : records) ++counts[of(r)];
    return std::max_element(counts.begin(), counts.end(),
                            [](auto const& a, auto const& b) { return a.second < b.second; })
        ->first;
  };
  auto const alpha = [&](record_info const& r) { return alpha_of(r.scale, r.rank, c.rank_stable); };
  c.r = commonest([](record_info const& r) { return r.rank; });
  c.alpha = commonest(alpha);
  std::vector<std::string> modules;
  for (auto const& r : records) modules.push_back(r.module);
  for (auto const& r : records) {
    if (r.rank != c.r) c.rank_pattern.emplace_back(pattern_key(r.module, modules), r.rank);
    if (alpha(r) != c.alpha) c.alpha_pattern.emplace_back(pattern_key(r.module, modules), alpha(r));
  }
}

/// Last words of the modules, if they mean just these among all modules that the base's names speak of; else whole
/// names, if they do (PEFT takes those, too, for the ends of longer ones); else an expression.
inline module_selection targets_of(std::vector<record_info> const& records, std::string const& prefix,
                                   safetensors_model const* base) {
  std::set<std::string> whole, words;
  for (auto const& r : records) {
    whole.insert(r.module);
    words.insert(r.module.substr(r.module.rfind('.') + 1));
  }
  auto const exact = [&](module_selection const& selection) {
    for (auto const& name : base->names())
      for (auto dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1)) {
        auto const module = prefix + name.substr(0, dot);
        if (selection.selects(module) && !whole.contains(module)) return false;
      }
    return true;
  };
  module_selection const by_word{{words.begin(), words.end()}, {}, {}, {}, {}, {}};
  module_selection const by_name{{whole.begin(), whole.end()}, {}, {}, {}, {}, {}};
  if (!base || exact(by_name)) return base && exact(by_word) ? by_word : by_name;
  std::string expression;
  for (auto const& module : whole) expression += (expression.empty() ? "" : "|") + escaped(module);
  return {{}, expression, {}, {}, {}, {}};
}

}  // namespace format

/// The name of a module's weight in the base's files.  errors  value_error if the module lacks the prefix
inline std::string weight_name(std::string const& module, std::string const& prefix) {
  if (!module.starts_with(prefix))
    raise<value_error>("weight_name", "module", "'" + module + "'", "one that starts with '" + prefix + "'");
  return module.substr(prefix.size()) + ".weight";
}

/// Throws unless the base has a weight of the record's shape for its module (in x out with fan_in_fan_out).
/// errors  value_error naming the module; shape_error
inline void check_against_base(record_info const& r, safetensors_model const& base, std::string const& prefix,
                               bool fan_in_fan_out, std::string_view function) {
  auto const name = weight_name(r.module, prefix);
  std::string const where = std::string(function) + "(" + r.module + ")";
  if (!base.contains(name))
    raise<value_error>(where, "module", "unknown: no '" + name + "' in " + base.path().string(),
                       "a module of the base");
  auto const w = base[name];
  std::vector<index_t> const shape = fan_in_fan_out ? std::vector{r.in, r.out} : std::vector{r.out, r.in};
  if (w.shape != shape)
    raise<shape_error>(where, "adapter", shape_text(r.out, r.in),
                       "that of the base's " + shape_text(w.shape) + (fan_in_fan_out ? " (in x out)" : ""));
}
inline void check_against_base(adapter_record const& r, safetensors_model const& base, std::string const& prefix,
                               bool fan_in_fan_out, std::string_view function) {
  check_against_base(info_of(r), base, prefix, fan_in_fan_out, function);
}

/// Writes an adapter as PEFT does, adapter_model.safetensors and adapter_config.json in `folder`, record by record and
/// in any order. The folder is made if it is missing; each file appears whole or not at all, with `commit`, the
/// configuration last.
/// `base` is the model to look names and shapes up in, or unchecked_names.
/// errors  value_error for no records, a module given twice or unknown to the base, an anchored record without a named
///         base, an anchored base without a name; shape_error; file_error (EEXIST unless overwrite::yes)
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
    if (!task.empty() && task != "CAUSAL_LM" && task != "SEQ_2_SEQ_LM" && task != "FEATURE_EXTRACTION")
      raise<value_error>(
          "save_peft", "task_type", task,
          "CAUSAL_LM, SEQ_2_SEQ_LM, FEATURE_EXTRACTION or none: PEFT wants a head in the file for others");
    for (auto& r : records) {
      if (!expected_.emplace(r.module, r).second)
        raise<value_error>("save_peft", "module", "'" + r.module + "', twice", "each once");
      if (model) check_against_base(r, *model, options_.module_prefix, options_.fan_in_fan_out, "save_peft");
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
    if (portable())
      for (auto& r : records) r = {r.module, 1, r.out, r.in, rank_, 0, r.scale == 1 ? r.type : dtype::F32};
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
    with_float_type(record.type, record.module, "type", [&]<class T>(T) {
      auto const put = [&](record_matrix const& m, char const* factor) {
        std::vector<T> values;
        for (float const x : m.values) values.push_back(static_cast<T>(x));
        weights_->write(key(record.module, factor), row_major(std::as_const(values).data(), m.rows, m.cols));
      };
      put(record.a, ".lora_A.weight");
      put(record.b, ".lora_B.weight");
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
  static std::string key(std::string const& module, char const* factor) {
    return format::peft_prefix + module + factor;
  }

  void open(std::filesystem::path const& folder, std::vector<record_info> const& records,
            safetensors_model const* model) {
    peft_config c;
    c.rank_stable = options_.rank_stable && !portable();
    c.dropout = options_.dropout;
    c.fan_in_fan_out = options_.fan_in_fan_out;
    c.base_model = options_.base_model;
    c.task_type = options_.task_type;
    c.r = rank_;
    c.alpha = static_cast<double>(rank_);
    if (!portable()) format::set_scales(c, records);
    c.targets = format::targets_of(records, options_.module_prefix, model);
    std::string const config = peft_config_text(c);

    make_folder(folder);
    config_.emplace(folder / "adapter_config.json", options_.may_replace);
    config_->write(0, config);
    std::vector<tensor_spec> specs;
    for (auto const& r : records) {
      specs.push_back({key(r.module, ".lora_A.weight"), r.type, {r.rank, r.in}});
      specs.push_back({key(r.module, ".lora_B.weight"), r.type, {r.out, r.rank}});
    }
    weights_.emplace(folder / "adapter_model.safetensors", specs, std::map<std::string, std::string>{{"format", "pt"}},
                     options_.may_replace);
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
