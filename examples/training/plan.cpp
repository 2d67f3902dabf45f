#include "plan.hpp"

#include <fstream>

namespace training {

namespace {

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
    items.push_back({.id = id, .title = id, .spec = spec, .keep_errors = true});
  }
  return items;
}

}  // namespace

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

}  // namespace training
