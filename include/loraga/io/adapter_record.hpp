#pragma once
#include <loraga/adapter/lora.hpp>
#include <loraga/io/dtype.hpp>
#include <string>
#include <vector>

// An adapter in host memory, as files hold it: the same for every backend, and free of JSON, so that a .cu file may
// take records and a .cpp file write them.

namespace loraga {

/// A matrix of a record, row-major, in float whatever it is stored as.
struct record_matrix {
  index_t rows = 0, cols = 0;
  std::vector<float> values;

  record_matrix() = default;
  record_matrix(index_t r, index_t c) : rows(r), cols(c), values(static_cast<std::size_t>(r * c)) {}
  matrix_view<float, host_space> view() { return row_major(values.data(), rows, cols); }
  matrix_view<float const, host_space> view() const { return row_major(values.data(), rows, cols); }
  bool empty() const { return rows * cols == 0; }
};

/// One layer's low-rank change of W: s*(B*A - B0*A0), the second product where the adapter was anchored.
struct adapter_record {
  std::string module;  ///< the layer's dotted name in its model, without ".weight"
  double scale = 1;    ///< s
  record_matrix a, b;  ///< r x in, out x r
  record_matrix start_a, start_b;
  dtype type = dtype::F32;  ///< what the values were rounded to: F32, BF16 or F16

  index_t rank() const { return a.rows; }
  bool anchored() const { return !start_a.empty(); }
};

/// Throws unless the matrices fit together and all numbers are finite.
/// errors  shape_error; numeric_error; value_error for a scale that is not finite or a nameless module
inline void check_record(adapter_record const& r, std::string_view function) {
  std::string const where = std::string(function) + "(" + r.module + ")";
  if (r.module.empty()) raise<value_error>(where, "module", "empty", "the layer's name");
  require_value(is_finite(r.scale), r.scale, where, "scale", "a finite number");
  auto const check = [&](record_matrix const& m, index_t rows, index_t cols, char const* name) {
    if (m.rows != rows || m.cols != cols) raise_shape(m.rows, m.cols, rows, cols, where, name);
    if (m.values.size() != static_cast<std::size_t>(rows * cols))
      raise<shape_error>(where, name, std::to_string(m.values.size()) + " numbers", std::to_string(rows * cols));
    for (float const x : m.values)
      if (!is_finite(static_cast<double>(x))) raise<numeric_error>(where, name, "not finite", "finite numbers");
  };
  require_value(r.rank() >= 1 && r.a.cols >= 1 && r.b.rows >= 1, static_cast<double>(r.rank()), where, "rank",
                "at least 1");
  check(r.a, r.rank(), r.a.cols, "A");
  check(r.b, r.b.rows, r.rank(), "B");
  if (r.start_a.empty() && r.start_b.empty()) return;
  check(r.start_a, r.start_a.rows, r.a.cols, "A0");
  check(r.start_b, r.b.rows, r.start_a.rows, "B0");
}

/// Copies an adapter, and its start where it has one, into host memory; float64 adapters are rounded to float32, the
/// most that adapter files hold. Waits for the backend.
/// errors  state_error if the adapter is merged
template <Backend B, class A>
adapter_record take_record(B& be, A const& adapter, std::string module) {
  using T = typename A::value_type;
  if (adapter.merged()) raise<state_error>("take_record(" + module + ")", "adapter", "merged", "not merged");
  adapter_record r{std::move(module), adapter.scale(), {}, {}, {}, {}, is_16bit<T> ? dtype_of<T> : dtype::F32};
  auto const take = [&](auto from, record_matrix& to) {
    if (from.rows * from.cols == 0) return;
    to = record_matrix(from.rows, from.cols);
    auto const values = read_all(be, from);  // column by column
    for (index_t j = 0, at = 0; j < from.cols; ++j)
      for (index_t i = 0; i < from.rows; ++i, ++at)
        to.view()(i, j) = value_as<float>(values[static_cast<std::size_t>(at)]);
  };
  take(adapter.a(), r.a);
  take(adapter.b(), r.b);
  take(adapter.start_a(), r.start_a);
  take(adapter.start_b(), r.start_b);
  return r;
}

/// A copy of a record's matrix, or of its transpose, in the backend's memory.
template <class T, Backend B>
matrix<T, B> uploaded(B& be, matrix_view<float const, host_space> from) {
  matrix<T, B> to(be, from.rows, from.cols);
  auto const host = be.template allocate_host<T>(from.rows * from.cols);
  auto const packed = col_major(host.get(), from.rows, from.cols);
  for (index_t j = 0; j < from.cols; ++j)
    for (index_t i = 0; i < from.rows; ++i) packed(i, j) = static_cast<T>(from(i, j));
  be.copy(packed, to.view());
  be.synchronize();
  return to;
}

/// A and B of a record become the adapter's, as a new start: gradients go. Where W is the record's base, the layer then
/// computes what the record says.
/// errors  shape_error; value_error if the adapter's scale is not the record's (build it with constant_scaling);
///         state_error if the adapter is merged or anchored in place, or if the record is anchored (restore a
///         checkpoint instead, or widen it)
template <Backend B, class A>
void put_record(B& be, adapter_record const& r, A& adapter) {
  using T = typename A::value_type;
  std::string const where = "put_record(" + r.module + ")";
  check_record(r, "put_record");
  adapter.check_start();
  if (r.anchored()) raise<state_error>(where, "record", "anchored: it holds A0 and B0", "a plain one; see widened");
  if (std::abs(adapter.scale() - r.scale) > 1e-12 * std::abs(r.scale))
    raise<value_error>(where, "the adapter's scale", std::to_string(adapter.scale()), std::to_string(r.scale));
  if (r.a.cols != adapter.in() || r.b.rows != adapter.out() || r.rank() != adapter.rank())
    raise<shape_error>(where, "record", shape_text(r.b.rows, r.a.cols) + " of rank " + std::to_string(r.rank()),
                       shape_text(adapter.out(), adapter.in()) + " of rank " + std::to_string(adapter.rank()));
  auto const a = uploaded<T>(be, r.a.view().transposed()), b = uploaded<T>(be, r.b.view());
  adapter.start(be, a.view().transposed(), b.view());
}

/// The factors of r and then of (a, b), whose product counts with `sign`: A' = [A; a], B' = [B, sign*b].
inline adapter_record stacked(adapter_record const& r, record_matrix const& a, record_matrix const& b, float sign) {
  adapter_record sum{r.module, r.scale, {r.a.rows + a.rows, r.a.cols}, {r.b.rows, r.b.cols + b.cols}, {}, {}, r.type};
  std::copy(a.values.begin(), a.values.end(), std::copy(r.a.values.begin(), r.a.values.end(), sum.a.values.begin()));
  for (index_t i = 0; i < sum.b.rows; ++i)
    for (index_t j = 0; j < sum.b.cols; ++j)
      sum.b.view()(i, j) = j < r.b.cols ? r.b.view()(i, j) : sign * b.view()(i, j - r.b.cols);
  return sum;
}

/// The same change of W without a start, at the same s and of rank r + r0.
/// math    [B, -B0]*[A; A0] = B*A - B0*A0
inline adapter_record widened(adapter_record const& r) {
  return r.anchored() ? stacked(r, r.start_a, r.start_b, -1) : r;
}
inline std::vector<adapter_record> widened(std::vector<adapter_record> const& records) {
  std::vector<adapter_record> plain;
  for (auto const& r : records) plain.push_back(widened(r));
  return plain;
}

/// What the anchor subtracted: B0*A0 at s, as a record; W - s*B0*A0 is the anchored base.
/// errors  state_error if the record is not anchored
inline adapter_record start_of(adapter_record const& r) {
  if (!r.anchored()) raise<state_error>("start_of(" + r.module + ")", "record", "not anchored", "one with A0 and B0");
  return {r.module, r.scale, r.start_a, r.start_b, {}, {}, r.type};
}

/// s folded into B, and zeros up to `rank`: the same change of W at scale 1.
/// errors  value_error if rank is below the record's; state_error if it is anchored (widen it first)
inline adapter_record folded(adapter_record const& r, index_t rank) {
  std::string const where = "folded(" + r.module + ")";
  if (r.anchored()) raise<state_error>(where, "record", "anchored", "a widened one");
  require_value(rank >= r.rank(), static_cast<double>(rank), where, "rank", "at least the record's");
  adapter_record f{r.module, 1, {rank, r.a.cols}, {r.b.rows, rank}, {}, {}, r.scale == 1 ? r.type : dtype::F32};
  std::copy(r.a.values.begin(), r.a.values.end(), f.a.values.begin());
  for (index_t i = 0; i < r.b.rows; ++i)
    for (index_t j = 0; j < r.rank(); ++j)
      f.b.view()(i, j) = static_cast<float>(r.scale * static_cast<double>(r.b.view()(i, j)));
  return f;
}

/// An adapter by a name of the caller's, and how strongly it counts.
struct weighted_records {
  std::vector<adapter_record> records;
  double weight = 1;
};

/// One adapter that does what the weighted sum of several does: their factors side by side, ranks added, scale 1.
/// Exact; modules that only some adapters have are kept.
/// errors  as check_record; shape_error if a module has several shapes; value_error for a weight that is not finite
inline std::vector<adapter_record> combined(std::vector<weighted_records> const& adapters) {
  std::vector<adapter_record> sum;
  for (auto const& one : adapters) {
    require_value(is_finite(one.weight), one.weight, "combined", "weight", "a finite number");
    for (auto const& r : one.records) {
      check_record(r, "combined");
      auto part = widened(r);
      part.scale *= one.weight;
      part = folded(part, part.rank());
      auto const same = std::find_if(sum.begin(), sum.end(), [&](auto const& s) { return s.module == r.module; });
      if (same == sum.end()) {
        sum.push_back(std::move(part));
        continue;
      }
      if (same->a.cols != part.a.cols || same->b.rows != part.b.rows)
        raise<shape_error>("combined(" + r.module + ")", "record", shape_text(part.b.rows, part.a.cols),
                           shape_text(same->b.rows, same->a.cols));
      *same = stacked(*same, part.a, part.b, 1);
      same->type = dtype::F32;
    }
  }
  return sum;
}

}  // namespace loraga
