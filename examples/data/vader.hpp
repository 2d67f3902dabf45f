#pragma once
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

#include "sampler.hpp"
#include "text_set.hpp"
#include "wordpiece.hpp"

namespace data {

/// The four sets of rated snippets of Hutto and Gilbert, "VADER", ICWSM 2014, as the package vaderSentiment ships them.
struct vader_rule {
  double smallest_rating = 0.5;          ///< snippets whose mean rating (-4 to 4) is nearer to zero are dropped
  std::size_t tokens = 64;               ///< longer snippets are cut
  index_t test = 600, validation = 300;  ///< most snippets of each part ...
  double test_share = 0.2, validation_share = 0.1;  ///< ... and most of all that are kept
};

struct rated_snippet {
  std::string document, text;
  double rating;
};

/// The sets by the names options use.
inline std::map<std::string, std::string> const& vader_files() {
  static std::map<std::string, std::string> const files{{"movie", "movieReviewSnippets_GroundTruth.txt"},
                                                        {"amazon", "amazonReviewSnippets_GroundTruth.txt"},
                                                        {"nyt", "nytEditorialSnippets_GroundTruth.txt"},
                                                        {"tweets", "tweets_GroundTruth.txt"}};
  return files;
}

/// A ground-truth file: id, mean rating and text, separated by tabs. An id `12_3` names the third snippet of document
/// 12; other ids name none.
/// errors  runtime_error naming file and line
inline std::vector<rated_snippet> read_vader(std::string const& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + ": cannot be opened; examples/run.sh sentiment puts it there");
  std::vector<rated_snippet> all;
  std::string line;
  while (std::getline(file, line)) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    auto const first = line.find('\t'), second = line.find('\t', first + 1);
    char* end = nullptr;
    double const rating = first == line.npos ? 0 : std::strtod(line.c_str() + first + 1, &end);
    if (second == line.npos || end != line.c_str() + second || !std::isfinite(rating))
      throw std::runtime_error(path + ": line " + std::to_string(all.size() + 1) + " is not id, rating, text");
    auto const id = line.substr(0, first), text = line.substr(second + 1);
    auto const underscore = id.find('_');
    all.push_back({underscore == id.npos ? std::string() : id.substr(0, underscore), text, rating});
  }
  if (all.empty()) throw std::runtime_error(path + ": holds no snippets");
  return all;
}

/// Labels are 0 (negative) and 1 (positive). Whole documents go to the test part and then to the validation part as
/// long as they fit, the rest to the training part; a function of the file and the rule alone. Snippets of no document
/// that are the same to the tokenizer count as one, so that none is both trained on and tested with.
inline text_parts split_vader(std::vector<rated_snippet> const& all, wordpiece const& tokenizer,
                              vader_rule const& rule) {
  text_parts parts;
  std::map<std::string, std::vector<std::size_t>> documents;
  std::vector<std::string> order;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (std::abs(all[i].rating) < rule.smallest_rating) {
      ++parts.dropped;
      continue;
    }
    auto name = all[i].document;
    if (name.empty())
      for (index_t const id : tokenizer.encode(all[i].text, rule.tokens)) name += ' ' + std::to_string(id);
    auto& members = documents[name];
    if (members.empty()) order.push_back(name);
    members.push_back(i);
  }
  shuffle(order, {2014, 1});
  auto const kept = static_cast<index_t>(all.size()) - parts.dropped;
  auto const most = [&](index_t limit, double share) {
    return std::min(limit, static_cast<index_t>(share * static_cast<double>(kept)));
  };
  index_t const tests = most(rule.test, rule.test_share);
  index_t const validations = most(rule.validation, rule.validation_share);
  for (auto const& name : order) {
    auto const& members = documents[name];
    auto const n = static_cast<index_t>(members.size());
    text_set& part = parts.test.count() + n <= tests               ? parts.test
                     : parts.validation.count() + n <= validations ? parts.validation
                                                                   : parts.train;
    for (auto const i : members) {
      bool const positive = all[i].rating > 0;
      parts.cut += tokenizer.encode(all[i].text, std::string::npos).size() > rule.tokens;
      parts.positive += positive;
      part.add(tokenizer.encode(all[i].text, rule.tokens), positive);
    }
  }
  parts.snippets = static_cast<index_t>(all.size());
  return parts;
}

}  // namespace data
