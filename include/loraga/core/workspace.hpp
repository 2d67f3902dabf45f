#pragma once
#include <algorithm>
#include <cstddef>
#include <loraga/core/matrix.hpp>
#include <utility>
#include <vector>

namespace loraga {

/// Scratch memory of one backend, handed out like a stack and kept: after its first time a step allocates nothing.
/// `Buffer` is what the backend's allocate<std::byte> returns.
/// While it grows it takes block after block. When all blocks are free they become one, larger than the most that was
/// in use: by a quarter, and by 64 MB at most. What a graph captured on a GPU uses is never moved.
template <class Buffer>
class workspace {
  struct block {
    Buffer memory;
    index_t size;
  };
  std::vector<block> blocks_;
  std::size_t block_ = 0;  // the block in use
  index_t used_ = 0;       // bytes taken of it
  index_t before_ = 0;     // bytes taken of those before it
  index_t peak_ = 0;       // most bytes taken at a time
  // Blocks that a captured graph may work in. A captured step allocates nothing, so they are those of that time.
  std::size_t captured_ = 0;

 public:
  static constexpr index_t alignment = 256;           ///< bytes: what CUDA's allocators give, enough for any CPU vector
  static constexpr index_t smallest_block = 1 << 16;  ///< bytes
  static constexpr index_t most_reserve = 64 << 20;   ///< bytes a block is larger than what was in use, at most
  /// A position of the stack.
  struct mark {
    std::size_t block;     ///< the block in use
    index_t used, before;  ///< bytes taken of it, and of the blocks before it
  };
  /// Where the stack ends now, to go back to with release.
  mark position() const { return {block_, used_, before_}; }
  /// Bytes held, in use or not.
  index_t held() const {
    index_t sum = 0;
    for (auto const& b : blocks_) sum += b.size;
    return sum;
  }

  /// Memory for that many bytes, until a release.
  template <class B>
  [[gnu::noinline]] std::byte* take(B& be, index_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    if constexpr (requires { be.capturing(); })
      if (before_ + used_ == 0 && be.capturing()) captured_ = std::max(captured_, blocks_.size());
    while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size) {
      before_ += used_;
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) add_block(be, std::max(bytes, smallest_block));
    std::byte* const p = blocks_[block_].memory.get() + used_;
    used_ += bytes;
    peak_ = std::max(peak_, before_ + used_);
    return p;
  }
  /// What was taken since `m` is free again.
  template <class B>
  [[gnu::noinline]] void release(B& be, mark m) noexcept {
    block_ = m.block;
    used_ = m.used;
    before_ = m.before;
    if (before_ + used_ > 0 || blocks_.size() < 2 || captured_ > 0) return;
    blocks_.clear();
    try {
      add_block(be, peak_ + std::min(peak_ / 4, most_reserve));
    } catch (...) {  // then the next call that needs memory says so
    }
  }
  /// Gives back what is not in use, but for what a captured graph works in.
  void trim() noexcept { keep_blocks(0); }

  /// What is held before a piece of work that is not to decide what is kept.
  struct extent {
    std::size_t blocks;  ///< how many
    index_t bytes;       ///< in all of them
    index_t peak;        ///< most bytes taken at a time
  };
  /// What is held now.
  extent holding() const { return {blocks_.size(), held(), peak_}; }
  /// Gives back what was added since and is not in use, if it is more than `kept` bytes.
  void shrink(extent before, index_t kept) noexcept {
    if (held() > before.bytes + kept) keep_blocks(before.blocks), peak_ = std::max(peak_, before.peak);
  }

 private:
  void keep_blocks(std::size_t n) noexcept {
    n = std::max({n, captured_, block_ + (used_ > 0)});
    if (n < blocks_.size()) blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(n), blocks_.end());
    peak_ = before_ + used_;
  }
  template <class B>
  void add_block(B& be, index_t size) {
    blocks_.push_back(block{be.template allocate<std::byte>(size), size});
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
  ~scratch() { be_.memory().release(be_, start_); }
  scratch(scratch const&) = delete;
  scratch& operator=(scratch const&) = delete;

  /// `count` column-major matrices back to back.
  template <class T>
  slab_view<T, space> slab(index_t count, index_t rows, index_t cols) {
    index_t const bytes = static_cast<index_t>(sizeof(T)) * count * rows * cols;
    return {reinterpret_cast<T*>(be_.memory().take(be_, bytes)), count, rows, cols, 1, rows, rows * cols};
  }
  /// One column-major matrix.
  template <class T>
  matrix_view<T, space> matrix(index_t rows, index_t cols) {
    return slab<T>(1, rows, cols)[0];
  }
};

}  // namespace loraga
