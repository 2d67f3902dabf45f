#include "results.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "jobs.hpp"

namespace training {

namespace {

/// The first entry in which two specs differ, as both have it.
std::string difference(json const& theirs, json const& ours) {
  for (auto const& entry : ours.items())
    if (!theirs.contains(entry.key()) || theirs[entry.key()] != entry.value())
      return entry.key() + " is " + (theirs.contains(entry.key()) ? theirs[entry.key()].dump() : "missing") +
             " there, here " + entry.value().dump();
  return theirs.size() == ours.size() ? "" : "there are other entries";
}

json measured(laboratory const& lab, item const& i, int threads, listener const& tell) {
  if (i.spec.at("kind") == "train") return record_json(lab.train(parse_train(i.spec), i.keep, threads, tell));
  auto const spec = parse_gradient(i.spec);
  return gradient_json(spec, lab.gradient(spec, threads));
}

}  // namespace

item run_item(train_spec const& s, std::string const& id, std::string const& folder, index_t every) {
  char title[128];
  std::snprintf(title, sizeof title, "%s on %s, rate %.0e, seed %llu", s.method.c_str(), s.set.c_str(), s.rate,
                static_cast<unsigned long long>(s.seed));
  checkpointing const keep{folder.empty() ? "" : folder + "/" + id + ".safetensors", every};
  return {id, title, train_json(s), keep};
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

std::optional<train_record> results_file::record(std::string const& id) const {
  auto const* found = find(id);
  if (!found || found->contains("error")) return {};
  return parse_record(*found);
}

void results_file::append(json const& result) {
  std::lock_guard lock(mutex_);
  known_[result.at("id").get<std::string>()] = result;
  if (path_.empty()) return;
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
  job_board board(std::min(threads, static_cast<int>(missing.size())));
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
      // a run may be tried again, unless its numbers are what is wrong
      if (!i.keep_errors && !dynamic_cast<loraga::numeric_error const*>(&failure)) throw;
      result["error"] = failure.what();
      end = std::string(" FAILED: ") + failure.what();
    }
    results.append(result);
    if (!i.keep.path.empty()) std::filesystem::remove(i.keep.path);
    board.finished(i.title + end);
  });
}

void run_items(laboratory const& lab, std::vector<item> const& items, results_file& results, int threads) {
  auto const known = std::count_if(items.begin(), items.end(), [&](item const& i) { return results.find(i.id); });
  auto const missing = static_cast<int>(std::ssize(items) - known);
  run_items(lab, items, results, threads, threads / std::clamp(missing, 1, threads));
}

}  // namespace training
