#pragma once
#include <algorithm>
#include <loraga/core/philox.hpp>
#include <numeric>
#include <vector>

namespace data {

using loraga::index_t;

/// A random order of what is there, a function of the stream alone.
template <class T>
void shuffle(std::vector<T>& items, loraga::random_stream stream) {
  for (std::size_t i = items.size(); i-- > 1;) {
    double const u = loraga::random_uniform(stream, i);
    std::swap(items[i], items[static_cast<std::size_t>(u * static_cast<double>(i + 1))]);
  }
}

/// Batches of a data set without replacement, reshuffled when it is used up; a function of the seed alone.
class sampler {
  std::vector<index_t> order_;
  std::size_t next_;
  loraga::random_stream stream_;

 public:
  sampler(index_t count, loraga::random_stream stream)
      : order_(static_cast<std::size_t>(count)), next_(order_.size()), stream_(stream) {
    std::iota(order_.begin(), order_.end(), index_t{0});
  }
  std::vector<index_t> draw(index_t n) {
    std::vector<index_t> items;
    while (static_cast<index_t>(items.size()) < n) {
      if (next_ == order_.size()) {
        stream_ = loraga::derive(stream_, 0);
        shuffle(order_, stream_);
        next_ = 0;
      }
      items.push_back(order_[next_++]);
    }
    return items;
  }
  template <class C>
  void visit_state(C& c) {
    c("order", order_);
    c("next", next_);
    c("seed", stream_.seed);
    c("stream", stream_.id);
  }
};

}  // namespace data
