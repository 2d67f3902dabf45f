#pragma once
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "results.hpp"

// What the tables of both examples are made with.

namespace training {

inline double mean(std::vector<double> const& x) {
  double sum = 0;
  for (double const v : x) sum += v;
  return sum / static_cast<double>(x.size());
}

/// Mean and standard deviation over seeds. A missing value (NaN: never reached, diverged) makes both null.
struct spread {
  std::vector<double> values;
  void add(double v) { values.push_back(v); }
  std::ptrdiff_t present() const {
    return std::count_if(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
  }
  bool complete() const { return !values.empty() && present() == std::ssize(values); }
  double average() const { return mean(values); }
  double deviation() const {
    if (values.size() < 2) return 0;
    double sum = 0;
    for (double const v : values) sum += (v - average()) * (v - average());
    return std::sqrt(sum / static_cast<double>(values.size() - 1));
  }
  json to_json() const {
    json all = json::array();
    for (double const v : values) all.push_back(std::isfinite(v) ? json(v) : json(nullptr));
    if (!complete()) return {{"mean", nullptr}, {"sd", nullptr}, {"values", all}};
    return {{"mean", average()}, {"sd", deviation()}, {"values", all}};
  }
  std::string text(int digits) const {
    char line[64];
    if (values.empty()) return "-";
    if (!complete()) {
      std::snprintf(line, sizeof line, "in %ld of %zu", static_cast<long>(present()), values.size());
      return line;
    }
    std::snprintf(line, sizeof line, "%.*f ± %.*f", digits, average(), digits, deviation());
    return line;
  }
};

/// A file that is there as a whole or not at all.
/// errors  runtime_error
inline void write_whole(std::string const& path, std::string const& text) {
  std::ofstream file(path + ".tmp", std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error(path + ": cannot be written");
  std::filesystem::rename(path + ".tmp", path);
}

}  // namespace training
