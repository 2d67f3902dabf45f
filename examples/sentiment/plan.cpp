#include "plan.hpp"

#include <filesystem>
#include <fstream>
#include <set>

#include "../finetune/jobs.hpp"

namespace sentiment {

namespace {

/// Reads entries by name and refuses those nobody asked for.
class reader {
  json const& line_;
  std::set<std::string> known_{"id", "kind"};

 public:
  explicit reader(json const& line) : line_(line) {}
  template <class T>
  void operator()(char const* key, T& value, bool required = false) {
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
    else if constexpr (std::is_integral_v<T>) fits = found.is_number_integer() && found >= 0;
    if (!fits) throw std::runtime_error(std::string("'") + key + "' is " + found.dump());
    value = found.get<T>();
  }
  void sample(sample_size& s) {
    (*this)("sample_batches", s.batches);
    (*this)("sample_batch", s.batch);
    if (s.batches < 1 || s.batch < 1) throw std::runtime_error("a sample is empty");
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

json measured(laboratory const& lab, item const& i, int threads, std::function<void(progress const&)> const& tell) {
  if (i.spec.at("kind") == "train") {
    auto const r = lab.train(parse_train(i.spec), i.keep, threads, tell);
    return {{"trainable", r.trainable},
            {"n_train", r.n_train},
            {"n_test", r.n_test},
            {"init_seconds", r.init_seconds},
            {"init_peak_bytes", r.init_peak_bytes},
            {"training_peak_bytes", r.training_peak_bytes},
            {"seconds", r.seconds},
            {"steps", r.steps},
            {"losses", r.losses},
            {"accuracies", r.accuracies},
            {"train_losses", r.train_losses},
            {"accuracy", r.accuracy},
            {"loss", r.loss}};
  }
  auto const spec = parse_gradient(i.spec);
  json layers = json::array();
  double sign = 0, magnitude = 0;
  auto const rows = lab.gradient(spec, threads);
  for (auto const& row : rows) {
    json layer{{"name", row.name}, {"out", row.out}, {"in", row.in}, {"coverage", json::object()}};
    for (std::size_t k = 0; k < spec.ranks.size(); ++k)
      layer["coverage"][std::to_string(spec.ranks[k])] = row.coverage[k];
    if (spec.spectra) layer["spectrum"] = row.spectrum;
    if (spec.against.batches > 0) {
      layer["sign_similarity"] = row.sign_similarity;
      layer["magnitude_similarity"] = row.magnitude_similarity;
    }
    sign += row.sign_similarity / static_cast<double>(rows.size());
    magnitude += row.magnitude_similarity / static_cast<double>(rows.size());
    layers.push_back(std::move(layer));
  }
  json result{{"layers", std::move(layers)}};
  if (spec.against.batches > 0) {
    result["sign_similarity"] = sign;
    result["magnitude_similarity"] = magnitude;
  }
  return result;
}

/// The first entry in which two specs differ, as both have it.
std::string difference(json const& theirs, json const& ours) {
  for (auto const& entry : ours.items())
    if (!theirs.contains(entry.key()) || theirs[entry.key()] != entry.value())
      return entry.key() + " is " + (theirs.contains(entry.key()) ? theirs[entry.key()].dump() : "missing") +
             " there, here " + entry.value().dump();
  return theirs.size() == ours.size() ? "" : "there are other entries";
}

std::vector<item> read_plan(std::string const& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  std::vector<item> items;
  std::set<std::string> ids;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    auto const spec = json::parse(line, nullptr, false);
    auto const text = [&](char const* key) {
      if (!spec.is_object() || !spec.contains(key) || !spec[key].is_string())
        throw std::runtime_error(path + ": line " + std::to_string(number) + " has no '" + key + "'");
      return spec[key].get<std::string>();
    };
    auto const id = text("id"), kind = text("kind");
    if (kind != "train" && kind != "gradient")
      throw std::runtime_error(path + ": line " + std::to_string(number) + ": kind is '" + kind +
                               "', expected train or gradient");
    if (!ids.insert(id).second)
      throw std::runtime_error(path + ": line " + std::to_string(number) + ": id '" + id + "' is there twice");
    items.push_back({id, id, spec, {}});
  }
  return items;
}

}  // namespace

train_spec parse_train(json const& line) {
  train_spec s;
  reader read(line);
  read("method", s.method, true);
  auto const& how = find_method(s.method);
  s.rate = how.rate;
  s.ratio = how.ratio;
  s.gamma = how.gamma;
  read("set", s.set, true);
  read("part", s.part);
  read("rank", s.rank);
  read("alpha", s.alpha);
  read("gamma", s.gamma);
  read("lr", s.rate);
  read("ratio", s.ratio);
  read("seed", s.seed, true);
  read("steps", s.steps);
  read("epochs", s.epochs);
  read("batch", s.batch);
  read("directions", s.directions);
  read("evaluate_every", s.evaluate_every);
  read.sample(s.sample);
  read.finish();
  if (line.contains("steps") && line.contains("epochs"))
    throw std::runtime_error("'steps' and 'epochs' are both there");
  if (s.steps < 1 || s.batch < 1 || s.evaluate_every < 1)
    throw std::runtime_error("steps, batch or evaluate_every is 0");
  return s;
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

json train_json(train_spec const& s) {
  json line{{"kind", "train"},  {"method", s.method}, {"set", s.set}, {"part", s.part},   {"rank", s.rank},
            {"alpha", s.alpha}, {"gamma", s.gamma},   {"lr", s.rate}, {"ratio", s.ratio}, {"seed", s.seed}};
  if (s.epochs > 0) line["epochs"] = s.epochs;
  else line["steps"] = s.steps;
  line["batch"] = s.batch;
  line["directions"] = s.directions;
  line["sample_batches"] = s.sample.batches;
  line["sample_batch"] = s.sample.batch;
  line["evaluate_every"] = s.evaluate_every;
  return line;
}

results_file::results_file(std::string const& path) : path_(path) {
  std::ifstream file(path, std::ios::binary);
  std::string line;
  std::uintmax_t whole = 0;
  while (std::getline(file, line)) {
    if (file.eof()) {
      std::filesystem::resize_file(path, whole);
      break;
    }
    whole += line.size() + 1;
    auto const result = json::parse(line, nullptr, false);
    if (!result.is_object() || !result.contains("id") || !result["id"].is_string())
      throw std::runtime_error(path + ": line " + std::to_string(known_.size() + 1) + " is no result; nothing was run");
    known_[result["id"].get<std::string>()] = result;
  }
}

json const* results_file::find(std::string const& id) const {
  auto const found = known_.find(id);
  return found == known_.end() ? nullptr : &found->second;
}

void results_file::append(json const& result) {
  std::lock_guard lock(mutex_);
  known_[result.at("id").get<std::string>()] = result;
  std::ofstream file(path_, std::ios::app | std::ios::binary);
  file << result.dump() << '\n' << std::flush;
  if (!file) throw std::runtime_error(path_ + ": cannot be written");
}

void results_file::forget(std::vector<item> const& items) {
  for (auto const& i : items) known_.erase(i.id);
  std::ofstream file(path_ + ".new", std::ios::binary);
  for (auto const& entry : known_) file << entry.second.dump() << '\n';
  file.close();
  if (!file) throw std::runtime_error(path_ + ".new: cannot be written");
  std::filesystem::rename(path_ + ".new", path_);
}

void require_same_specs(results_file const& results, std::vector<item> const& items, std::string const& advice) {
  for (auto const& i : items)
    if (auto const* found = results.find(i.id)) {
      auto const differs = difference(found->at("spec"), i.spec);
      if (!differs.empty())
        throw std::runtime_error(results.path() + ": " + i.id + " was run with other options (" + differs + "); " +
                                 advice);
    }
}

void run_items(laboratory const& lab, std::vector<item> const& items, results_file& results, int threads, int each) {
  std::vector<item const*> missing;
  for (auto const& i : items)
    if (!results.find(i.id)) missing.push_back(&i);
  if (missing.empty()) return;
  finetune::job_board board(std::min(threads, static_cast<int>(missing.size())));
  board.run(missing.size(), [&](std::size_t n, int) {
    auto const& i = *missing[n];
    json result{{"id", i.id}, {"spec", i.spec}};
    std::string end;
    try {
      result.update(measured(lab, i, each, [&](progress const& p) { board.update(i.title, p.step, p.loss); }));
      char text[64] = "";
      if (result.contains("loss"))
        std::snprintf(text, sizeof text, ": loss %.4f, accuracy %.4f", result["loss"].get<double>(),
                      result["accuracy"].get<double>());
      end = text;
    } catch (std::exception const& failure) {
      // a run with a checkpoint may be tried again, unless its numbers are what is wrong
      if (!i.keep.path.empty() && !dynamic_cast<loraga::numeric_error const*>(&failure)) throw;
      result["error"] = failure.what();
      end = std::string(" FAILED: ") + failure.what();
    }
    results.append(result);
    if (!i.keep.path.empty()) std::filesystem::remove(i.keep.path);
    board.finished(i.title + end);
  });
}

void run_plan(laboratory const& lab, options const& o) {
  auto const items = read_plan(o.plan);
  results_file results(o.results);
  require_same_specs(results, items, "choose another --results or another id");
  run_items(lab, items, results, o.threads, 1);  // alone or not, an item takes the same time
}

std::set<std::string> sets_of_plan(std::string const& path) {
  std::set<std::string> sets;
  for (auto const& i : read_plan(path))
    if (i.spec.contains("set") && i.spec["set"].is_string()) sets.insert(i.spec["set"].get<std::string>());
  return sets;
}

}  // namespace sentiment
