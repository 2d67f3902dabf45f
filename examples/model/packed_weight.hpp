#pragma once
#include <loraga/io/base_model.hpp>
#include <loraga/loraga.hpp>

#include "functors.hpp"

namespace model {

using loraga::matrix;
using loraga::matrix_view;

namespace functor {
/// Rows one after another, in Hugging Face's order where those of a head lie in GGUF's.
struct rows_from {
  index_t first, rotary_size;  // rows of a head; 0 where none are reordered
  LORAGA_HD index_t operator()(index_t j) const {
    return rotary_size > 0 ? loraga::format::gguf_rotary_row(first + j, rotary_size) : first + j;
  }
};
/// Rows by number.
template <class Ids>
struct rows_of {
  Ids ids;  // 1 x columns
  LORAGA_HD index_t operator()(index_t j) const { return ids(0, j); }
};
/// Block i of row row_of(j) of a packed matrix becomes floats in column j of `to`.
template <class Block, class RowOf>
struct unpack {
  std::byte const* packed;
  columns to;
  index_t blocks;  // of a row
  RowOf row_of;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    Block::decode(packed + (row_of(j) * blocks + i) * Block::bytes, &to(i * Block::elements, j));
  }
  LORAGA_HD index_t cost() const { return Block::elements; }
};
/// y(i) (+)= row i of a packed matrix times one column x: nothing is unpacked but a block at a time.
template <class Block>
struct packed_dot {
  std::byte const* packed;
  columns x, y;
  rows_from row_of;
  bool accumulate;
  LORAGA_HD void operator()(index_t i, index_t) const {
    constexpr index_t size = Block::elements, together = size < 32 ? 32 / size : 1, lanes = together * size;
    index_t const blocks = x.rows / size;
    std::byte const* const row = packed + row_of(i) * blocks * Block::bytes;
    float total[lanes] = {}, some[lanes];
    index_t b = 0;
    for (; b + together <= blocks; b += together) {
      for (index_t g = 0; g < together; ++g) Block::decode(row + (b + g) * Block::bytes, some + g * size);
      float const* const v = &x(b * size, 0);
      for (index_t k = 0; k < lanes; ++k) total[k] += some[k] * v[k];
    }
    for (; b < blocks; ++b) {
      Block::decode(row + b * Block::bytes, some);
      for (index_t k = 0; k < size; ++k) total[k] += some[k] * x(b * size + k, 0);
    }
    y(i, 0) = (accumulate ? y(i, 0) : 0.f) + sum(lanes, [&](index_t k) { return total[k]; });
  }
  LORAGA_HD index_t cost() const { return x.rows; }
};
}  // namespace functor

/// A frozen matrix as its file packs it: mapped on the host, copied as it is to a device. Products unpack some rows at
/// a time, so that some two megabytes are ever in float.
template <class B>
class packed_weight {
  using space = typename B::space;
  using view = matrix_view<float, space>;
  static constexpr bool on_host = std::is_same_v<space, loraga::host_space>;
  using memory = decltype(std::declval<B&>().template allocate<std::byte>(1));

  loraga::base_weight stored_;
  memory device_{};
  static constexpr index_t tile_elements = index_t{1} << 19;

  std::byte const* packed() const {
    if constexpr (on_host) return stored_.bytes().data();
    else return device_.get();
  }
  functor::rows_from rows_from(index_t first) const {
    return {first, stored_.rotary_heads() > 0 ? out() / stored_.rotary_heads() : 0};
  }
  template <class RowOf>
  void unpack(B& be, RowOf row_of, view to) const {
    loraga::with_gguf_block(stored_.facts(), stored_.label(), [&]<class Block>(Block) {
      index_t const blocks = in() / Block::elements;
      be.for_each(blocks, to.cols, functor::unpack<Block, RowOf>{packed(), to, blocks, row_of});
    });
  }

 public:
  std::string name;  // in the Hugging Face model

  packed_weight(B& be, loraga::base_model const& base, std::string const& tensor)
      : stored_(base[tensor]), name(tensor) {
    if constexpr (!on_host) {
      auto const n = static_cast<index_t>(stored_.bytes().size());
      device_ = be.template allocate<std::byte>(n);
      be.copy(loraga::col_major(stored_.bytes().data(), n, 1),
              matrix_view<std::byte, space>{device_.get(), n, 1, 1, n});
    }
  }
  index_t out() const { return stored_.rows(); }
  index_t in() const { return stored_.cols(); }
  loraga::base_weight const& stored() const { return stored_; }

  /// Rows of these numbers (1 x count) as the columns of `to`.
  template <class Ids>
  void look_up(B& be, Ids ids, view to) const {
    unpack(be, functor::rows_of<Ids>{ids}, to);
  }
  /// Rows [first, first + to.cols) as the columns of `to`: W as it lies in memory, row-major.
  void rows(B& be, index_t first, view to) const { unpack(be, rows_from(first), to); }
  /// f(first row, those rows of W as a row-major matrix), for all of W in pieces of like size.
  template <class F>
  void by_rows(B& be, F const& f) const {
    index_t const most = std::max<index_t>(64, tile_elements / in()), pieces = (out() + most - 1) / most,
                  each = (out() + pieces - 1) / pieces;
    for (index_t first = 0; first < out(); first += each) {
      loraga::scratch<B> temporary(be);
      auto const tile = temporary.template matrix<float>(in(), std::min(each, out() - first));
      rows(be, first, tile);
      f(first, tile.transposed());
    }
  }
  /// y = W*x, or y += W*x.
  void forward(B& be, view x, view y, bool accumulate) const {
    if (x.cols == 1)  // a word at a time, when a model speaks
      return loraga::with_gguf_block(stored_.facts(), stored_.label(), [&]<class Block>(Block) {
        be.for_each(out(), 1, functor::packed_dot<Block>{packed(), x, y, rows_from(0), accumulate});
      });
    by_rows(be, [&](index_t first, view w) { be.gemm(1.0, w, x, accumulate ? 1.0 : 0.0, y.row_range(first, w.rows)); });
  }
  /// dx = WT*dy, or dx += WT*dy.
  void backward(B& be, matrix_view<float const, space> dy, view dx, bool accumulate) const {
    by_rows(be, [&](index_t first, view w) {
      be.gemm(1.0, w.transposed(), dy.row_range(first, w.rows), accumulate || first > 0 ? 1.0 : 0.0, dx);
    });
  }
};

}  // namespace model
