#pragma once
#include <loraga/core/batch.hpp>
#include <loraga/core/float16.hpp>
#include <utility>

namespace loraga {

/// `count` column-major matrices back to back, owned; move-only. Not zeroed.
/// errors  shape_error if a size is negative; what the backend throws when memory runs out
template <class T, class B>
class slab {
  using buffer = decltype(std::declval<B&>().template allocate<T>(index_t{}));
  buffer memory_{};
  index_t count_ = 0, rows_ = 0, cols_ = 0;

 public:
  using space = typename B::space;
  slab() = default;
  slab(B& be, index_t count, index_t rows, index_t cols) : count_(count), rows_(rows), cols_(cols) {
    if (count < 0 || rows < 0 || cols < 0)
      raise<shape_error>("slab", "shape", std::to_string(count) + " times " + shape_text(rows, cols),
                         "no negative size");
    memory_ = be.template allocate<T>(count * rows * cols);
  }
  slab_view<T, space> view() { return {memory_.get(), count_, rows_, cols_, 1, rows_, rows_ * cols_}; }
  slab_view<T const, space> view() const { return {memory_.get(), count_, rows_, cols_, 1, rows_, rows_ * cols_}; }
  index_t count() const { return count_; }
  index_t rows() const { return rows_; }
  index_t cols() const { return cols_; }
};

/// One column-major matrix, owned; move-only. Not zeroed.
template <class T, class B>
class matrix {
  slab<T, B> one_;

 public:
  using space = typename B::space;
  matrix() = default;
  matrix(B& be, index_t rows, index_t cols) : one_(be, 1, rows, cols) {}
  matrix_view<T, space> view() { return one_.view()[0]; }
  matrix_view<T const, space> view() const { return one_.view()[0]; }
  index_t rows() const { return one_.rows(); }
  index_t cols() const { return one_.cols(); }
};

}  // namespace loraga
