#include "comparison.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "../finetune/report.hpp"

namespace sentiment {

namespace {

std::vector<item> planned(options const& o) {
  std::vector<item> items;
  for (auto const& set : o.sets)
    for (auto const seed : o.seeds)
      for (auto const& name : o.methods) {
        auto const& how = find_method(name);
        train_spec s = o.run;
        s.method = name;
        s.set = set;
        s.seed = seed;
        if (s.rate == 0) s.rate = how.rate;
        if (s.ratio == 0) s.ratio = how.ratio;
        if (s.gamma == 0) s.gamma = how.gamma;
        auto const id = name + "-" + set + "-seed" + std::to_string(seed);
        char title[96];
        std::snprintf(title, sizeof title, "%s on %s, rate %.0e, seed %llu", name.c_str(), set.c_str(), s.rate,
                      static_cast<unsigned long long>(seed));
        items.push_back(
            {id, title, train_json(s), {o.out + "/checkpoints/" + id + ".safetensors", o.checkpoint_every}});
      }
  return items;
}

/// One method on one set, over seeds.
struct row {
  std::string method, set;
  double rate;
  index_t trainable = 0;
  finetune::spread loss, accuracy, seconds, init_seconds;
};

std::vector<row> summarise(std::vector<item> const& items, results_file const& results) {
  std::vector<row> rows;
  for (auto const& i : items) {
    auto const& r = *results.find(i.id);
    auto const method = i.spec["method"].get<std::string>(), set = i.spec["set"].get<std::string>();
    auto found =
        std::find_if(rows.begin(), rows.end(), [&](row const& x) { return x.method == method && x.set == set; });
    if (found == rows.end())
      found = rows.insert(rows.end(), {method, set, i.spec["lr"].get<double>(), 0, {}, {}, {}, {}});
    auto const number = [&](char const* key) { return r.contains("error") ? std::nan("") : r[key].get<double>(); };
    if (!r.contains("error")) found->trainable = r["trainable"].get<index_t>();
    found->loss.values.push_back(number("loss"));
    found->accuracy.values.push_back(number("accuracy"));
    found->seconds.values.push_back(number("seconds"));
    found->init_seconds.values.push_back(number("init_seconds"));
  }
  return rows;
}

void print(std::vector<row> const& rows) {
  std::printf("\n%-8s%-12s%9s%12s%20s%20s%12s%12s\n", "set", "method", "rate", "trainable", "test loss", "accuracy",
              "start, s", "total, s");
  for (auto const& r : rows)
    std::printf("%-8s%-12s%9.0e%12lld%20s%20s%12s%12s\n", r.set.c_str(), r.method.c_str(), r.rate,
                static_cast<long long>(r.trainable), r.loss.text(4).c_str(), r.accuracy.text(4).c_str(),
                r.init_seconds.text(1).c_str(), r.seconds.text(0).c_str());
}

void write_files(options const& o, std::vector<item> const& items, std::vector<row> const& rows,
                 results_file const& results) {
  std::ofstream csv(o.out + "/curves.csv.tmp");
  csv << "set,method,seed,step,loss,accuracy\n";
  for (auto const& i : items) {
    auto const& r = *results.find(i.id);
    if (r.contains("error")) continue;
    for (std::size_t k = 0; k < r["steps"].size(); ++k)
      csv << i.spec["set"].get<std::string>() << ',' << i.spec["method"].get<std::string>() << ',' << i.spec["seed"]
          << ',' << r["steps"][k] << ',' << r["losses"][k] << ',' << r["accuracies"][k] << '\n';
  }
  json summary{{"device", o.device}, {"seeds", o.seeds}, {"rows", json::array()}};
  for (auto const& r : rows)
    summary["rows"].push_back({{"set", r.set},
                               {"method", r.method},
                               {"lr", r.rate},
                               {"trainable", r.trainable},
                               {"loss", r.loss.to_json()},
                               {"accuracy", r.accuracy.to_json()},
                               {"init_seconds", r.init_seconds.to_json()},
                               {"seconds", r.seconds.to_json()}});
  std::ofstream out(o.out + "/summary.json.tmp");
  out << summary.dump(1) << '\n';
  csv.close();
  out.close();
  if (!csv || !out) throw std::runtime_error(o.out + ": cannot be written");
  for (auto const* name : {"/curves.csv", "/summary.json"})
    std::filesystem::rename(o.out + name + ".tmp", o.out + name);
}

}  // namespace

void compare(laboratory const& lab, options const& o) {
  auto const items = planned(o);
  std::filesystem::create_directories(o.out + "/checkpoints");
  auto const path = o.out + "/results.jsonl";
  if (o.fresh) {
    for (auto const& i : items) std::filesystem::remove(i.keep.path);
  }
  results_file results(path);
  if (o.fresh) results.forget(items);
  require_same_specs(results, items, "choose another --out, or --fresh to run it anew");
  auto const known = std::count_if(items.begin(), items.end(), [&](item const& i) { return results.find(i.id); });
  if (known > 0)
    std::printf("%td of %zu runs are in %s already (--fresh runs them anew)\n", known, items.size(), path.c_str());
  auto const missing = static_cast<int>(items.size()) - static_cast<int>(known);
  run_items(lab, items, results, o.threads, o.threads / std::clamp(missing, 1, o.threads));
  auto const rows = summarise(items, results);
  print(rows);
  write_files(o, items, rows, results);
}

}  // namespace sentiment
