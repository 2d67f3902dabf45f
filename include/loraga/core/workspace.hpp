#pragma once
#include <cstddef>
#include <loraga/core/matrix.hpp>
#include <utility>
#include <vector>

namespace loraga {

/// Scratch memory of one backend, handed out like a stack and kept: once every buffer a step needs has been seen,
/// the step allocates nothing more. `Buffer` is what the backend's allocate<std::byte> returns.
template <class Buffer>
class workspace {
  struct block {
    Buffer memory;
    index_t size;
  };
  std::vector<block> blocks_;
  std::size_t block_ = 0;  // the block in use
  index_t used_ = 0;       // bytes taken of it

 public:
  static constexpr index_t alignment = 256;           // what CUDA's allocators give; covers every CPU vector width
  static constexpr index_t smallest_block = 1 << 16;  // bytes
  struct mark {
    std::size_t block;
    index_t used;
  };
  mark position() const { return {block_, used_}; }
  void release(mark m) {
    block_ = m.block;
    used_ = m.used;
  }
  template <class B>
  std::byte* take(B& be, index_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) {
      index_t const size = std::max(bytes, blocks_.empty() ? smallest_block : blocks_.back().size);
      blocks_.push_back(block{be.template allocate<std::byte>(size), size});
    }
    std::byte* const p = blocks_[block_].memory.get() + used_;
    used_ += bytes;
    return p;
  }
};

/// Temporary matrices that live until the end of this object's scope. Contents start undefined.
template <class B>
class scratch {
  using mark = decltype(std::declval<B&>().memory().position());
  B& be_;
  mark const start_;

 public:
  using space = typename B::space;
  explicit scratch(B& be) : be_(be), start_(be.memory().position()) {}
  ~scratch() { be_.memory().release(start_); }
  scratch(scratch const&) = delete;
  scratch& operator=(scratch const&) = delete;

  template <class T>
  slab_view<T, space> slab(index_t count, index_t rows, index_t cols) {
    index_t const bytes = static_cast<index_t>(sizeof(T)) * count * rows * cols;
    return {reinterpret_cast<T*>(be_.memory().take(be_, bytes)), count, rows, cols, 1, rows, rows * cols};
  }
  template <class T>
  matrix_view<T, space> matrix(index_t rows, index_t cols) {
    return slab<T>(1, rows, cols)[0];
  }
};

}  // namespace loraga
