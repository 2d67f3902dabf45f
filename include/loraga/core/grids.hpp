#pragma once
#include <loraga/core/config.hpp>
#include <memory>
#include <type_traits>
#include <vector>

namespace loraga {

/// Records with a grid of elements each, such as the tensors of a model with all that a step needs of them. What a
/// backend's for_each_of and sum_of go through together: on a GPU in one kernel, whatever the number of grids.
/// memory  on the host the records; a backend may keep a copy of them where its kernels see it
template <class R, class B>
class grid_list {
  static_assert(std::is_trivially_copyable_v<R>, "a record is copied to where kernels read it");

 public:
  /// A record and the size of its grid.
  struct grid {
    index_t rows, cols;
    R record;  ///< what the list's owner keeps of it
  };

 private:
  std::vector<grid> grids_;
  std::shared_ptr<void> plan_;  // the backend's copy of the list as it is now
  std::vector<std::shared_ptr<void>> old_plans_;

 public:
  /// Appends a grid; empty ones are allowed.
  void add(index_t rows, index_t cols, R const& record) {
    grids_.push_back({rows, cols, record});
    if (plan_) old_plans_.push_back(std::move(plan_));  // a captured graph may go on reading it
    plan_.reset();
  }
  auto begin() const { return grids_.begin(); }
  auto end() const { return grids_.end(); }
  bool empty() const { return grids_.empty(); }

  /// The backend's own copy of the list: what make() returned, a shared_ptr<P>, the first time since the last `add`.
  template <class P, class F>
  P const& plan(F const& make) {
    if (!plan_) plan_ = std::shared_ptr<P>(make());
    return *static_cast<P const*>(plan_.get());
  }
};

/// Takes now what memory the backend needs to run over the list, where it needs any. A run does so as well; this call
/// comes before something that must not be done by half.
/// errors  as the backend's allocate
template <class R, class B>
void make_ready(B& be, grid_list<R, B>& list) {
  if constexpr (requires { be.plan(list); }) be.plan(list);
}

}  // namespace loraga
