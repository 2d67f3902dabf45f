#pragma once
#include <iostream>
#include <loraga/cpu.hpp>
#include <loraga/io/gguf.hpp>
#include <loraga/io/merge_peft.hpp>

#include "model_files.hpp"
#include "progress.hpp"

// What loraga_adapter does with adapters on disk.

namespace tools {

/// DIR or DIR:WEIGHT.
struct adapter_source {
  std::filesystem::path folder;
  double weight = 1;
};
/// errors  value_error for a weight that is no finite number
inline adapter_source parse_source(std::string const& text) {
  auto const colon = text.rfind(':');
  std::error_code unknown;
  if (colon == text.npos || std::filesystem::is_directory(text, unknown)) return {text, 1};
  char* end = nullptr;
  double const weight = std::strtod(text.c_str() + colon + 1, &end);
  if (end == text.c_str() + colon + 1 || *end != 0 || !is_finite(weight))
    throw value_error("adapter '" + text + "': expected FOLDER or FOLDER:WEIGHT");
  return {text.substr(0, colon), weight};
}

struct adapter_options {
  std::vector<std::string> sources;
  std::filesystem::path base = {}, out = {}, start = {};
  std::optional<peft_base> relative_to = {};  ///< the base A and B are for, where the adapter does not say it
  std::vector<name_change> renames = {};      ///< of the adapters' names
  std::optional<bool> fan_in_fan_out = {};
  std::optional<tied_weights> tied = {};
  peft_profile profile = peft_profile::faithful;
  std::string base_name = {};
  gguf_options gguf = {};
  overwrite may_replace = overwrite::no;
};

/// The names of an adapter, changed.  errors  value_error for two that become one
inline void rename(peft_adapter& adapter, std::vector<name_change> const& changes) {
  std::set<std::string> names;
  auto const change = [&](std::string& name, char const* kind) {
    name = renamed(name, changes);
    if (!names.insert(kind + name).second) throw value_error("--rename: two names become '" + name + "'");
  };
  for (auto& r : adapter.records) change(r.module, "layer ");
  for (auto& w : adapter.whole) change(w.name, "tensor ");
}

/// errors  as load_peft, rename
inline std::vector<weighted_peft> load_all(adapter_options const& o, whole_layers whole) {
  std::vector<weighted_peft> all;
  for (auto const& text : o.sources) {
    auto const source = parse_source(text);
    auto one = load_peft(source.folder, o.start.empty() ? o.relative_to : peft_base::anchored, whole);
    rename(one, o.renames);
    all.push_back({std::move(one), source.weight});
  }
  return all;
}

inline double norm(record_matrix const& m) {
  double sum = 0;
  for (float const x : m.values) sum += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(sum);
}

inline void show(adapter_options const& o) {
  for (auto const& text : o.sources) {
    auto const adapter = load_peft(parse_source(text).folder, peft_base::anchored, whole_layers::take);
    auto const& c = adapter.config;
    std::printf("%s: %s, base %s, %s%s\n", text.c_str(), c.adalora ? "AdaLoRA" : (c.dora ? "DoRA" : "LoRA"),
                c.base_model.empty() ? "not named" : c.base_model.c_str(),
                c.adalora ? "s = alpha/(r + 1e-5)" : (c.rank_stable ? "s = alpha/sqrt(r)" : "s = alpha/r"),
                c.changes_base() ? ", for a base that PEFT changed" : "");
    char const* const more = c.adalora ? "|E|" : c.dora ? "|g|" : "";
    std::printf("%-48s %15s %5s %5s %12s %10s %10s %10s\n", "module", "out x in", "r", "type", "s", "|A|", "|B|", more);
    for (auto const& r : adapter.records) {
      std::printf("%-48s %15s %5lld %5s %12.6g %10.4g %10.4g", r.module.c_str(), shape_text(r.b.rows, r.a.cols).c_str(),
                  static_cast<long long>(r.rank()), std::string(dtype_name(r.type)).c_str(), r.scale, norm(r.a),
                  norm(r.b));
      if (*more) std::printf(" %10.4g", norm(r.has_e() ? r.e : r.magnitude));
      std::printf("%s\n", r.layer.form == layer_form::linear ? "" : (", " + layer_text(r.layer)).c_str());
    }
    for (auto const& w : adapter.whole)
      std::printf("%-48s %15s %5s %5s whole\n", w.name.c_str(), shape_text(w.tensor.shape).c_str(), "",
                  std::string(dtype_name(w.tensor.type)).c_str());
  }
}

/// sign 1 adds the adapters to the base, -1 takes them out.
/// errors  as merge_peft
inline void merge(adapter_options const& o, double sign) {
  if (is_gguf(o.base))
    throw value_error(
        "merge: " + o.base.string() +
        " is a GGUF file, which is not written; expected the model in safetensors (convert the merged one), "
        "or serve the adapter beside it: loraga_adapter gguf");
  auto const all = load_all(o, whole_layers::take);
  safetensors_model const base(o.base);
  loraga::cpu be;
  made_folders folders;
  if (!base.is_single_file()) folders.make(o.out);
  progress bar("tensors", base.size());
  auto const notes = merge_peft(be, base, o.out, all, sign,
                                {.fan_in_fan_out = o.fan_in_fan_out,
                                 .tied = o.tied,
                                 .may_replace = o.may_replace,
                                 .progress = [&](index_t done, index_t) {
                                   if (done <= static_cast<index_t>(base.size())) bar.step();
                                 }});
  for (auto const& note : notes) std::cout << note << '\n';
}

/// Writes records, and what an adapter holds beside them.
inline void save(adapter_options const& o, std::vector<adapter_record> const& records, peft_adapter const& rest,
                 bool rank_stable) {
  auto const& c = rest.config;
  save_peft(o.out, records,
            {.profile = o.profile,
             .base = peft_base::original,
             .rank_stable = rank_stable,
             .base_model = o.base_name.empty() ? c.base_model : o.base_name,
             .task_type = c.task_type,
             .dropout = c.dropout,
             .fan_in_fan_out = c.fan_in_fan_out,
             .may_replace = o.may_replace,
             .whole = rest.whole,
             .modules_to_save = c.modules_to_save,
             .bias = c.bias,
             .ensure_weight_tying = c.ensure_weight_tying},
            unchecked_names{});
}

/// Adds to `sum` what another adapter holds whole.
/// errors  value_error for a layer that both hold, and not the same
inline void add_whole(peft_adapter& sum, peft_adapter const& other) {
  std::map<std::string, stored_tensor> held;
  for (auto const& w : sum.whole) held.emplace(w.name, w.tensor);
  for (auto const& w : other.whole) {
    auto const [p, fresh] = held.emplace(w.name, w.tensor);
    if (fresh) sum.whole.push_back(w);
    else if (!same_tensor(p->second, w.tensor))
      throw value_error("combine: two adapters hold " + w.name +
                        " whole, and not the same; expected one, or the same in both");
  }
  if (!other.whole.empty()) sum.config.task_type = other.config.task_type;  // a head's
  auto& names = sum.config.modules_to_save;
  for (auto const& name : other.config.modules_to_save)
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  if (sum.config.bias == "none") sum.config.bias = other.config.bias;
}

/// One adapter that does what the weighted sum of all does.
/// errors  as combined, add_whole; value_error for whole layers with a weight other than 1, or fan_in_fan_out in some
inline void combine(adapter_options const& o) {
  auto const all = load_all(o, whole_layers::take);
  std::vector<weighted_records> records;
  peft_adapter rest{all[0].adapter.config, {}, {}, {}};
  for (auto const& one : all) {
    for (auto const& w : one.adapter.whole)
      if (one.weight != 1 && !is_base_copy(w, one.adapter.config))
        throw value_error("combine: an adapter with a weight of " + std::to_string(one.weight) + " holds " + w.name +
                          " whole, which counts by no part; expected weight 1");
    if (one.adapter.config.fan_in_fan_out != rest.config.fan_in_fan_out)
      throw value_error("combine: fan_in_fan_out is true in some adapters and false in others");
    records.push_back({one.adapter.records, one.weight});
    add_whole(rest, one.adapter);
  }
  save(o, combined(records), rest, false);
}

/// What PEFT saved of a base whose weights the start changed (embeddings are saved with their factors) becomes the
/// original base's: W' + s*B0*A0. The tensors lie in `memory`.
inline void restore_base_copies(peft_adapter& adapter, std::vector<std::vector<std::byte>>& memory) {
  loraga::cpu be;
  for (auto& w : adapter.whole) {
    if (!is_base_copy(w, adapter.config)) continue;
    for (auto const& r : adapter.records) {
      if (w.name != r.module + ".weight") continue;
      with_float_type(w.tensor.type, w.tensor.label, "dtype", [&, &w = w, &r = r]<class T>(T) {
        format::weight_change<T, loraga::cpu> change(be, w.tensor, {start_of(r)}, 1, adapter.config.fan_in_fan_out);
        memory.push_back(change.bytes());
      });
      w.tensor.bytes = memory.back();
    }
  }
}

/// Another profile; with `start`, from the anchored base (rank r) to the original one (rank 2r).
/// errors  value_error if start and adapter have other modules or scales
inline void convert(adapter_options const& o) {
  auto adapter = std::move(load_all(o, whole_layers::take)[0].adapter);
  auto& records = adapter.records;
  std::vector<std::vector<std::byte>> memory;
  if (!o.start.empty()) {
    auto start = load_peft(o.start, peft_base::anchored);
    rename(start, o.renames);
    auto const same = [](auto const& a, auto const& b) { return a.module == b.module && a.scale == b.scale; };
    if (!std::equal(records.begin(), records.end(), start.records.begin(), start.records.end(), same))
      throw value_error("convert: " + o.start.string() +
                        " has other modules or scales than the adapter, expected its start");
    if (o.base_name.empty())
      throw value_error(
          "convert: --base-name is missing, expected the original base's name (the adapter names the changed one)");
    for (std::size_t i = 0; i < records.size(); ++i) {
      records[i].start_a = start.records[i].a;
      records[i].start_b = start.records[i].b;
    }
    restore_base_copies(adapter, memory);
  }
  save(o, records, adapter, adapter.config.rank_stable);
}

/// What a GGUF base says of itself takes the place of what was not said; every module must be there, as large as the
/// adapter's.
/// errors  value_error naming the module
inline void look_up(std::filesystem::path const& path, std::vector<adapter_record> const& records,
                    gguf_options& options) {
  base_model const base(path);
  auto const* file = base.in_gguf();
  if (!file) throw value_error("gguf: --base " + path.string() + " is no GGUF file");
  auto const said = file->text("general.architecture");
  if (options.architecture.empty()) options.architecture = said;
  if (options.architecture != said)
    throw value_error("gguf: --architecture is " + options.architecture + ", " + path.string() + " says " + said);
  if (options.heads == 0) options.heads = file->number_or<index_t>(said + ".attention.head_count", 0);
  if (options.kv_heads == 0) options.kv_heads = file->number_or(said + ".attention.head_count_kv", options.heads);
  for (auto const& r : records) {
    auto const tensor = gguf_tensor_name(said, r.module);
    auto const shape = file->contains(tensor) ? (*file)[tensor].shape : std::vector<index_t>();
    if (shape != std::vector{r.b.rows, r.a.cols})
      throw value_error("gguf: " + r.module + " is " + shape_text(r.b.rows, r.a.cols) + ", " + path.string() + " has " +
                        (shape.empty() ? "no " + tensor : shape_text(shape)));
  }
}

inline void to_gguf(adapter_options const& o) {
  auto const records = load_all(o, whole_layers::refuse)[0].adapter.records;
  auto options = o.gguf;
  if (!o.base.empty()) look_up(o.base, records, options);
  if (options.architecture.empty())
    throw value_error("gguf: --architecture is missing, expected it or --base FILE.gguf");
  options.may_replace = o.may_replace;
  save_gguf_adapter(o.out, records, options);
}

}  // namespace tools
