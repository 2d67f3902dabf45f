#pragma once
#include "report.hpp"

namespace vision {

/// Runs that were asked for, each done once.
class run_store {
  laboratory const& lab_;
  int threads_;
  results_file known_;

 public:
  run_store(laboratory const& lab, int threads) : lab_(lab), threads_(threads) {}
  std::vector<finished_run> get(std::vector<train_spec> const& specs) {
    std::vector<item> items;
    for (auto const& s : specs) items.push_back(run_item(s, train_json(s).dump()));
    run_items(lab_, items, known_, threads_);
    std::vector<finished_run> runs;
    for (std::size_t i = 0; i < specs.size(); ++i) runs.push_back({specs[i], known_.record(items[i].id)});
    return runs;
  }
};

}  // namespace vision
