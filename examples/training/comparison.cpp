#include "comparison.hpp"

#include <CLI/CLI.hpp>
#include <sstream>

#include "statistics.hpp"

namespace training {

namespace {

std::string short_number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", x);
  return text;
}

std::vector<item> planned(comparison_options const& o) {
  std::vector<item> items;
  for (auto const& set : o.sets)
    for (auto const seed : o.seeds)
      for (auto const& name : o.methods)
        for (double const rate : o.rates.empty() ? std::vector{o.run.rate} : o.rates) {
          auto run = o.run;
          run.rate = rate;
          auto s = spec_of(run, name);
          s.set = set;
          s.seed = seed;
          auto const at = o.rates.empty() ? "" : "-rate" + short_number(rate);
          items.push_back(run_item(s, name + at + "-" + set + "-seed" + std::to_string(seed), o.out + "/checkpoints",
                                   o.checkpoint_every));
        }
  return items;
}

/// One method at one rate on one set, over seeds.
struct row {
  std::string method, set;
  double rate;
  index_t trainable = 0;
  spread loss, accuracy, seconds, init_seconds;
};

std::vector<row> summarise(std::vector<item> const& items, results_file const& results) {
  std::vector<row> rows;
  for (auto const& i : items) {
    auto const s = parse_train(i.spec);
    auto found = std::find_if(rows.begin(), rows.end(),
                              [&](row const& x) { return x.method == s.method && x.set == s.set && x.rate == s.rate; });
    if (found == rows.end()) found = rows.insert(rows.end(), {s.method, s.set, s.rate, 0, {}, {}, {}, {}});
    auto const r = results.record(i.id);
    if (r) found->trainable = r->trainable;
    found->loss.add(r ? r->loss : NAN);
    found->accuracy.add(r ? r->accuracy : NAN);
    found->seconds.add(r ? r->seconds : NAN);
    found->init_seconds.add(r ? r->init_seconds : NAN);
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

void write_files(comparison_options const& o, std::vector<item> const& items, std::vector<row> const& rows,
                 results_file const& results) {
  std::ostringstream csv;
  csv << "set,method,seed,step,loss,accuracy\n";
  for (auto const& i : items) {
    auto const r = results.record(i.id);
    if (!r) continue;
    auto const s = parse_train(i.spec);
    for (std::size_t k = 0; k < r->steps.size(); ++k)
      csv << s.set << ',' << s.method << (o.rates.empty() ? "" : " " + short_number(s.rate)) << ',' << s.seed << ','
          << r->steps[k] << ',' << json(r->losses[k]) << ',' << json(r->accuracies[k]) << '\n';
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
  write_whole(o.out + "/curves.csv", csv.str());
  write_whole(o.out + "/summary.json", summary.dump(1) + '\n');
}

}  // namespace

void add_comparison_options(CLI::App& app, comparison_options& o) {
  app.add_option("--checkpoint-every", o.checkpoint_every, "steps between checkpoints")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_flag("--fresh", o.fresh, "forget what the output folder holds of these runs and start anew");
}

void compare(laboratory const& lab, comparison_options const& o) {
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
  run_items(lab, items, results, o.threads);
  auto const rows = summarise(items, results);
  print(rows);
  write_files(o, items, rows, results);
}

}  // namespace training
