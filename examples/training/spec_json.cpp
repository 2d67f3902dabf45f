#include "spec_json.hpp"

#include <set>

namespace training {

namespace {

/// Reads entries by name and refuses those nobody asked for.
class reader {
  json const& line_;
  std::set<std::string> known_{"id", "kind"};

 public:
  explicit reader(json const& line) : line_(line) {}
  template <class T>
  void operator()(char const* key, T& value, bool required = false, index_t least = 0) {
    known_.insert(key);
    if (!line_.contains(key)) {
      if (required) throw std::runtime_error(std::string("'") + key + "' is missing");
      return;
    }
    auto const& found = line_[key];
    bool fits = found.is_array();
    if constexpr (std::is_same_v<T, std::string>) fits = found.is_string();
    else if constexpr (std::is_same_v<T, bool>) fits = found.is_boolean();
    else if constexpr (std::is_floating_point_v<T>) fits = found.is_number();
    else if constexpr (std::is_integral_v<T>) fits = found.is_number_integer() && found >= least;
    if (!fits) throw std::runtime_error(std::string("'") + key + "' is " + found.dump());
    value = found.get<T>();
  }
  void sample(sample_size& s) {
    (*this)("sample_batches", s.batches, false, 1);
    (*this)("sample_batch", s.batch, false, 1);
  }
  json const* object(char const* key) {
    known_.insert(key);
    return line_.contains(key) ? &line_[key] : nullptr;
  }
  void finish() const {
    for (auto const& entry : line_.items())
      if (!known_.contains(entry.key())) throw std::runtime_error("'" + entry.key() + "' is unknown");
  }
};

}  // namespace

train_spec parse_train(json const& line) {
  train_spec s;
  reader read(line);
  read("method", s.method, true);
  s.rate = s.ratio = s.gamma = 0;
  s = spec_of(s, s.method);
  for_each_field(s, [&](field const& f, auto& value) { read(f.name, value, f.required, f.least); });
  read.finish();
  if (line.contains("steps") && line.contains("epochs"))
    throw std::runtime_error("'steps' and 'epochs' are both there");
  return s;
}

json train_json(train_spec const& s) {
  json line;
  line["kind"] = "train";
  for_each_field(s, [&](field const& f, auto const& value) {
    if (f.is_written) line[f.name] = value;
  });
  return line;
}

gradient_spec parse_gradient(json const& line) {
  gradient_spec s;
  reader read(line);
  read("set", s.set, true);
  read("seed", s.seed, true);
  read("ranks", s.ranks);
  read("spectra", s.spectra);
  read.sample(s.sample);
  if (auto const* against = read.object("against")) {
    if (!against->is_object()) throw std::runtime_error("'against' is " + against->dump());
    s.against = {};
    reader inner(*against);
    inner.sample(s.against);
    inner.finish();
  }
  read.finish();
  return s;
}

json record_json(train_record const& r) {
  json line;
  for_each_field(r, [&](char const* name, auto const& value) { line[name] = value; });
  return line;
}
train_record parse_record(json const& line) {
  train_record r;
  for_each_field(r, [&](char const* name, auto& value) { line.at(name).get_to(value); });
  return r;
}

json gradient_json(gradient_spec const& s, std::vector<gradient_layer> const& rows) {
  json layers = json::array();
  double sign = 0, magnitude = 0;
  for (auto const& row : rows) {
    json layer{{"name", row.name.substr(0, row.name.rfind('.'))},
               {"out", row.out},
               {"in", row.in},
               {"coverage", json::object()}};
    for (std::size_t k = 0; k < s.ranks.size(); ++k) layer["coverage"][std::to_string(s.ranks[k])] = row.coverage[k];
    if (s.spectra) layer["spectrum"] = row.spectrum;
    if (s.against.batches > 0) {
      layer["sign_similarity"] = row.sign_similarity;
      layer["magnitude_similarity"] = row.magnitude_similarity;
    }
    sign += row.sign_similarity / static_cast<double>(rows.size());
    magnitude += row.magnitude_similarity / static_cast<double>(rows.size());
    layers.push_back(std::move(layer));
  }
  json result{{"layers", std::move(layers)}};
  if (s.against.batches > 0) {
    result["sign_similarity"] = sign;
    result["magnitude_similarity"] = magnitude;
  }
  return result;
}

}  // namespace training
