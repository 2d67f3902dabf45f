#pragma once
#include <loraga/distributed/agreement.hpp>
#include <loraga/linalg/elementwise.hpp>

// Many matrices as few messages.

namespace loraga {

/// How large a message is: matrices travel together up to this size.
struct bucket_options {
  index_t bytes = index_t{32} << 20;  ///< a message's size; a matrix's column is never cut
};

namespace detail {

/// A line that has to agree among ranks: messages of another size would not meet.
inline std::string bucket_line(bucket_options const& options) {
  return "messages of " + std::to_string(options.bytes) + " bytes\n";
}

/// Whether a view's numbers lie back to back.
template <class V>
bool is_packed(V const& v) {
  return v.row_stride == 1 && (v.col_stride == v.rows || v.cols == 1);
}

/// Calls send(pointer, count) for the numbers of all views, bucket by bucket: `send` finds there what the views hold,
/// and the views get what it leaves there. Large packed ones in the backend's memory are handed on as they are. Where
/// the cuts are is a matter of shapes and strides.
/// memory  one bucket of scratch
template <Backend B, class V, class F>
void for_each_bucket(B& be, std::span<V const> views, bucket_options options, F const& send) {
  using T = typename V::value_type;
  using space = typename B::space;
  index_t total = 0, room = std::max<index_t>(1, options.bytes / static_cast<index_t>(sizeof(T)));
  std::vector<V> all;
  for (V v : views) {
    if (v.rows * v.cols == 0) continue;
    if (runs_by_rows(v)) v = v.transposed();
    total += v.rows * v.cols;
    room = std::max(room, v.rows);
    all.push_back(v);
  }
  scratch<B> temporary(be);
  auto const bucket = temporary.template matrix<T>(std::min(room, total), 1);
  std::vector<V> held;
  index_t used = 0;
  auto const place = [&](index_t at, V const& v) {
    return matrix_view<T, space>(bucket.data + at, v.rows, v.cols, 1, v.rows);
  };
  auto const each = [&](auto const& move) {
    index_t at = 0;
    for (auto const& v : held) {
      move(v, place(at, v));
      at += v.rows * v.cols;
    }
  };
  auto const flush = [&] {
    if (used == 0) return;
    each([&](V const& v, auto here) { be.copy(v, here); });
    send(bucket.data, used);
    each([&](V const& v, auto here) { be.copy(here, v); });
    held.clear();
    used = 0;
  };
  for (auto const& v : all) {
    if constexpr (std::is_same_v<typename V::space, space>) {
      if (is_packed(v) && v.rows * v.cols >= room) {
        for (index_t at = 0, n = v.rows * v.cols; at < n; at += room) send(v.data + at, std::min(room, n - at));
        continue;
      }
    }
    for (index_t first = 0; first < v.cols;) {
      index_t const n = std::min(v.cols - first, (room - used) / v.rows);
      if (n == 0) {
        flush();
        continue;
      }
      held.push_back(v.columns(first, n));
      used += n * v.rows;
      first += n;
    }
  }
  flush();
}

}  // namespace detail

/// Every view becomes the sum of all ranks'. All ranks give views of the same shapes. Nothing is checked: see agree.
template <Backend B, Communicator<B> C, class V>
void all_reduce_views(B& be, C& comm, std::span<V const> views, bucket_options options = {}) {
  detail::for_each_bucket(be, views, options, [&](auto* data, index_t n) { comm.all_reduce(be, data, n); });
}

/// Every view becomes that of rank `root`. All ranks give views of the same shapes. Nothing is checked: see agree.
template <Backend B, Communicator<B> C, class V>
void broadcast_views(B& be, C& comm, std::span<V const> views, int root, bucket_options options = {}) {
  detail::for_each_bucket(be, views, options, [&](auto* data, index_t n) {
    comm.broadcast(be, reinterpret_cast<std::byte*>(data), n * static_cast<index_t>(sizeof *data), root);
  });
}

namespace detail {

/// Sends some views to the partner and takes others from it, in one message each way.
template <Backend B, class C, class V>
void exchange_views(B& be, C& comm, std::span<V const> give, std::span<V const> take, int partner) {
  using T = typename V::value_type;
  auto const numbers = [](std::span<V const> views) {
    index_t n = 0;
    for (auto const& v : views) n += v.rows * v.cols;
    return n;
  };
  index_t const out = numbers(give), in = numbers(take), size = static_cast<index_t>(sizeof(T));
  scratch<B> temporary(be);
  auto const from = temporary.template matrix<T>(out, 1), to = temporary.template matrix<T>(in, 1);
  auto const each = [](std::span<V const> views, T* data, auto const& move) {
    for (auto const& v : views) {
      move(v, matrix_view<T, typename B::space>(data, v.rows, v.cols, 1, v.rows));
      data += v.rows * v.cols;
    }
  };
  each(give, from.data, [&](V const& v, auto here) { be.copy(v, here); });
  comm.exchange(be, reinterpret_cast<std::byte const*>(from.data), out * size, reinterpret_cast<std::byte*>(to.data),
                in * size, partner);
  each(take, to.data, [&](V const& v, auto here) { be.copy(here, v); });
}

}  // namespace detail

}  // namespace loraga
