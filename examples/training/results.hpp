#pragma once
#include <map>
#include <mutex>
#include <optional>

#include "spec_json.hpp"

namespace training {

/// One thing to do: a plan's line, and where its state is kept meanwhile, if it shall be.
struct item {
  std::string id, title;
  json spec;
  checkpointing keep = {};
  bool keep_errors = false;  ///< every error is a result, not divergence alone
};

/// The item of one run. With a folder, its state is kept there.
item run_item(train_spec const& s, std::string const& id, std::string const& folder = {}, index_t every = 0);

/// A file of results that survives being killed while it is written: a last line without an end is dropped. Without a
/// path, results are kept in memory alone.
class results_file {
  std::string path_;
  std::mutex mutex_;
  std::map<std::string, json> known_;

 public:
  results_file() = default;
  /// errors  runtime_error for a line that is no result
  explicit results_file(std::string const& path);
  std::string const& path() const { return path_; }
  json const* find(std::string const& id) const;
  /// The record of a run; nothing for one that failed or was not done.
  std::optional<train_record> record(std::string const& id) const;
  /// One line, on its way to the disk when this returns. Threads may call it side by side.
  void append(json const& result);
  /// Drops the results of these items; the others stay.
  void forget(std::vector<item> const& items);
};

/// errors  runtime_error naming the item whose result is of another spec, what differs, and what to do: `advice`
void require_same_specs(results_file const& results, std::vector<item> const& items, std::string const& advice);

/// Does every item that has no result yet, `threads` side by side with `each` threads of its own. A run that diverges
/// has its error as its result; so has one with `keep_errors` that throws anything. Other errors end the job.
void run_items(laboratory const& lab, std::vector<item> const& items, results_file& results, int threads, int each);
/// The same with as many threads for each as are left over.
void run_items(laboratory const& lab, std::vector<item> const& items, results_file& results, int threads);

}  // namespace training
