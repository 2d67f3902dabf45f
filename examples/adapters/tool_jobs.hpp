#pragma once
#include <iostream>
#include <loraga/cpu.hpp>
#include <loraga/io/gguf.hpp>
#include <loraga/io/merge.hpp>

#include "model_files.hpp"
#include "progress.hpp"

// What loraga_adapter does with adapters on disk.

namespace adapters {

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

struct tool_options {
  std::vector<std::string> sources;
  std::filesystem::path base = {}, out = {}, start = {};
  bool changed_base = false;  ///< the adapter's A and B are for a base that PEFT changed, and --base is that one
  peft_profile profile = peft_profile::faithful;
  std::string base_name = {};
  gguf_options gguf = {};
  overwrite may_replace = overwrite::no;
};

struct loaded_adapters {
  std::vector<weighted_records> weighted;
  peft_config config;  ///< of the first
};
/// errors  as load_peft; value_error if some have fan_in_fan_out and some not
inline loaded_adapters load_all(tool_options const& o) {
  loaded_adapters all;
  for (auto const& text : o.sources) {
    auto const source = parse_source(text);
    auto one = load_peft(source.folder,
                         o.changed_base || !o.start.empty() ? std::optional(peft_base::anchored) : std::nullopt);
    if (!all.weighted.empty() && one.config.fan_in_fan_out != all.config.fan_in_fan_out)
      throw value_error(source.folder.string() + ": fan_in_fan_out differs from that of the adapters before");
    if (all.weighted.empty()) all.config = one.config;
    all.weighted.push_back({std::move(one.records), source.weight});
  }
  return all;
}

inline void show(tool_options const& o) {
  for (auto const& text : o.sources) {
    auto const adapter = load_peft(parse_source(text).folder, peft_base::anchored);
    auto const& c = adapter.config;
    std::printf("%s: %s, base %s, %s%s\n", text.c_str(), c.adalora ? "AdaLoRA" : (c.dora ? "DoRA" : "LoRA"),
                c.base_model.empty() ? "not named" : c.base_model.c_str(),
                c.adalora ? "s = alpha/(r + 1e-5)" : (c.rank_stable ? "s = alpha/sqrt(r)" : "s = alpha/r"),
                c.changes_base() ? ", for a base that PEFT changed" : "");
    char const* const more = c.adalora ? "|E|" : c.dora ? "|g|" : "";
    std::printf("%-48s %15s %5s %5s %12s %10s %10s %10s\n", "module", "out x in", "r", "type", "s", "|A|", "|B|", more);
    auto const norm = [](record_matrix const& m) {
      double sum = 0;
      for (float const x : m.values) sum += static_cast<double>(x) * static_cast<double>(x);
      return std::sqrt(sum);
    };
    for (auto const& r : adapter.records) {
      std::printf("%-48s %15s %5lld %5s %12.6g %10.4g %10.4g", r.module.c_str(), shape_text(r.b.rows, r.a.cols).c_str(),
                  static_cast<long long>(r.rank()), std::string(dtype_name(r.type)).c_str(), r.scale, norm(r.a),
                  norm(r.b));
      if (*more) std::printf(" %10.4g", norm(r.has_e() ? r.e : r.magnitude));
      std::printf("%s\n", r.layer.form == layer_form::linear ? "" : (", " + layer_text(r.layer)).c_str());
    }
  }
}

/// sign 1 adds the adapters to the base, -1 takes them out.
/// errors  as write_changed_model; state_error for a DoRA with a weight other than 1
inline void merge(tool_options const& o, double sign) {
  auto const all = load_all(o);
  safetensors_model const base(o.base);
  std::vector<adapter_record> changes;
  for (auto const& one : all.weighted)
    for (auto r : one.records) {
      if (one.weight != 1 && r.has_magnitude())
        raise<state_error>("merge(" + r.module + ")", "adapter",
                           "a DoRA with a weight of " + std::to_string(one.weight),
                           "weight 1: it is no change of W that could count by a part");
      r.scale *= one.weight;
      changes.push_back(std::move(r));
    }
  loraga::cpu be;
  made_folders folders;
  if (is_folder(base)) folders.make(o.out);
  progress bar("tensors", base.names().size());
  write_changed_model(be, base, o.out, changes, sign,
                      {.fan_in_fan_out = all.config.fan_in_fan_out,
                       .module_prefix = missing_prefix(base, changes[0].module),
                       .may_replace = o.may_replace,
                       .progress = [&](index_t, index_t) { bar.step(); }});
  if (is_folder(base)) copy_companions(base, o.out, o.may_replace);
}

inline void save(tool_options const& o, std::vector<adapter_record> const& records, peft_config const& c) {
  save_peft(o.out, records,
            {.profile = o.profile,
             .base = peft_base::original,
             .rank_stable = c.rank_stable,
             .base_model = o.base_name.empty() ? c.base_model : o.base_name,
             .task_type = c.task_type,
             .dropout = c.dropout,
             .fan_in_fan_out = c.fan_in_fan_out,
             .may_replace = o.may_replace},
            unchecked_names{});
}

/// One adapter that does what the weighted sum of all does.
inline void combine(tool_options const& o) {
  auto all = load_all(o);
  all.config.rank_stable = false;
  save(o, combined(all.weighted), all.config);
}

/// Another profile; with `start`, from the anchored base (rank r) to the original one (rank 2r).
/// errors  value_error if start and adapter have other modules or scales
inline void convert(tool_options const& o) {
  auto all = load_all(o);
  auto& records = all.weighted[0].records;
  if (!o.start.empty()) {
    auto const start = load_peft(o.start, peft_base::anchored).records;
    auto const same = [](auto const& a, auto const& b) { return a.module == b.module && a.scale == b.scale; };
    if (!std::equal(records.begin(), records.end(), start.begin(), start.end(), same))
      throw value_error("convert: " + o.start.string() +
                        " has other modules or scales than the adapter, expected its start");
    if (o.base_name.empty())
      throw value_error(
          "convert: --base-name is missing, expected the original base's name (the adapter names the changed one)");
    for (std::size_t i = 0; i < records.size(); ++i) {
      records[i].start_a = start[i].a;
      records[i].start_b = start[i].b;
    }
  }
  save(o, records, all.config);
}

inline void to_gguf(tool_options const& o) {
  auto const records = load_all(o).weighted[0].records;
  auto options = o.gguf;
  options.may_replace = o.may_replace;
  save_gguf_adapter(o.out, records, options);
}

}  // namespace adapters
