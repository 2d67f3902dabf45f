#pragma once
#include <loraga/concepts.hpp>
#include <loraga/ggml/views.hpp>

// What a training loop needs of a frozen W beside ggml's own W*x: dX, and now and then W itself. Quantised rows are
// unpacked some at a time, so W is never whole in float unless it is asked for.

namespace loraga::ggml_bridge {

/// f(first, rows of W as a row-major view of floats) for all of W, in pieces of half a million numbers.
/// cost    one pass over the packed bytes; an F32 weight is passed as it lies, in one piece
/// errors  packed's
template <Backend B, class F>
requires std::same_as<typename B::space, host_space>
void by_rows(B& be, ggml_tensor const* w, F const& f) {
  constexpr index_t numbers = index_t{1} << 19, together = 16;
  auto const from = packed(w);
  if (from.facts.type == gguf_type::F32) return f(index_t{0}, read_only(weight(const_cast<ggml_tensor*>(w))));
  index_t const out = from.rows(), in = from.cols(), each = std::max<index_t>(64, numbers / std::max<index_t>(1, in));
  for (index_t first = 0; first < out; first += each) {
    scratch<B> temporary(be);
    auto const tile = temporary.template matrix<float>(in, std::min(each, out - first)).transposed();
    be.for_each_chunk((tile.rows + together - 1) / together, [&](B&, index_t chunk, index_t n) {
      index_t const at = chunk * together, count = std::min(n * together, tile.rows - at);
      read_rows(from, first + at, tile.row_range(at, count));
    });
    f(first, read_only(tile));
  }
}

/// dX = beta*dX + WT*dY, by a weight of any type that packed takes.
/// cost    2*out*in*tokens operations, and by_rows
/// errors  packed's; shape_error, alias_error, before dX changes
template <Backend B, ViewIn<host_space> Y, MutableViewIn<host_space> X>
void multiply_transposed(B& be, ggml_tensor const* w, Y dy, double beta, X dx) {
  char const* const where = "ggml_bridge::multiply_transposed";
  auto const from = packed(w);
  require_shape(dy, from.rows(), dx.cols, where, "dY");
  require_shape(dx, from.cols(), dx.cols, where, "dX");
  require_matrix(dy, where, "dY");
  require_matrix(dx, where, "dX");
  require_distinct(dx, dy, where, "dX", "dY");
  by_rows(be, w, [&](index_t first, auto rows) {
    be.gemm(1.0, rows.transposed(), dy.row_range(first, rows.rows), first == 0 ? beta : 1.0, dx);
  });
}

/// The whole weight in float, for starts that factor W (PiSSA) or look at it.
/// memory  out*in floats
/// errors  packed's
template <Backend B>
matrix<float, B> unpacked(B& be, ggml_tensor const* w) {
  auto const from = packed(w);
  matrix<float, B> all(be, from.rows(), from.cols());
  by_rows(be, w, [&](index_t first, auto rows) { be.copy(rows, all.view().row_range(first, rows.rows)); });
  return all;
}

}  // namespace loraga::ggml_bridge
