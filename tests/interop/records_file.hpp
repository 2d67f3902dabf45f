#pragma once
#include <loraga/io/peft.hpp>

// Records as one safetensors file, and options as JSON: what exchange.cpp writes and tests/io/peft_reference.cpp reads.

namespace interop {

using namespace loraga;

inline peft_options peft_options_of(nlohmann::json const& e) {
  peft_options o;
  o.profile = e.value("profile", "faithful") == "portable" ? peft_profile::portable : peft_profile::faithful;
  if (e.contains("base")) o.base = e["base"] == "anchored" ? peft_base::anchored : peft_base::original;
  o.rank_stable = e.value("rank_stable", false);
  o.base_model = e.value("base_model", "");
  o.task_type = e.value("task_type", "");
  o.fan_in_fan_out = e.value("fan_in_fan_out", false);
  o.module_prefix = e.value("module_prefix", "");
  o.may_replace = overwrite::yes;
  return o;
}

/// M.a, M.b, and where there are any M.start_a, M.start_b, M.magnitude, M.e, in the record's own type; the scale is one
/// float64, M.scale. Linear layers.
inline void write_records(std::filesystem::path const& path, std::vector<adapter_record> const& records) {
  std::vector<tensor_spec> specs;
  auto const parts = [](adapter_record const& r) {
    std::vector<std::pair<std::string, record_matrix const*>> list{{r.module + ".a", &r.a},
                                                                   {r.module + ".b", &r.b},
                                                                   {r.module + ".start_a", &r.start_a},
                                                                   {r.module + ".start_b", &r.start_b},
                                                                   {r.module + ".magnitude", &r.magnitude},
                                                                   {r.module + ".e", &r.e}};
    std::erase_if(list, [](auto const& part) { return part.second->empty(); });
    return list;
  };
  for (auto const& r : records) {
    specs.push_back({r.module + ".scale", dtype::F64, {1}});
    for (auto const& [name, m] : parts(r)) specs.push_back({name, r.type, {m->rows, m->cols}});
  }
  safetensors_writer writer(path, specs, {}, overwrite::yes);
  for (auto const& r : records) {
    writer.write(r.module + ".scale", col_major(&r.scale, 1, 1));
    for (auto const& [name, m] : parts(r))
      with_float_type(r.type, name, "type", [&, &key = name, &from = *m]<class T>(T) {
        std::vector<T> values;
        for (float const x : from.values) values.push_back(static_cast<T>(x));
        writer.write(key, std::as_bytes(std::span(values)));
      });
  }
  writer.commit();
}

inline std::vector<adapter_record> read_records(std::filesystem::path const& path) {
  safetensors_file const file(path);
  std::vector<adapter_record> records;
  for (auto const& t : file.tensors()) {
    if (!t.name.ends_with(".scale")) continue;
    adapter_record r;
    r.module = t.name.substr(0, t.name.size() - 6);
    read_matrix(file[t.name], col_major(&r.scale, 1, 1));
    auto const read = [&](char const* part, record_matrix& to) {
      if (!file.contains(r.module + part)) return;
      auto const from = file[r.module + part];
      to = {from.rows(), from.cols()};
      read_matrix(from, to.view());
      r.type = from.type;
    };
    read(".a", r.a);
    read(".b", r.b);
    read(".start_a", r.start_a);
    read(".start_b", r.start_b);
    read(".magnitude", r.magnitude);
    read(".e", r.e);
    records.push_back(std::move(r));
  }
  return records;
}

}  // namespace interop
