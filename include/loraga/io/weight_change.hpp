#pragma once
#include <cmath>
#include <loraga/io/record_algebra.hpp>
#include <loraga/io/record_info.hpp>

namespace loraga::format {

/// w + sum of sign*s*B*A of these, computed in float (double for F64) and rounded once to w's own type; a DoRA's rows
/// are brought to the length of its magnitude before. Some rows at a time, so that beside w and its copy little memory
/// is needed.
template <class T, Backend B>
class weight_change {
  using C = compute_t<T>;
  struct product {
    double factor;
    matrix<C, B> left, right;  // transposed: r x rows, r x cols of w
  };
  B& be_;
  stored_tensor const& w_;
  std::vector<product> products_;
  index_t rows_, cols_, step_;
  decltype(std::declval<B&>().template allocate_host<C>(0)) host_;
  matrix<C, B> sum_;
  bool transposed_ = false;    // w is in x out
  std::vector<double> ratio_;  // of DoRA: g/N by output

  /// Rows of w and the changes, as columns; gone with the next call.
  matrix_view<C, host_space> rows(index_t first, index_t n) {
    auto const* const from = w_.bytes.data() + first * cols_ * static_cast<index_t>(sizeof(T));
    for (index_t i = 0; i < n * cols_; ++i)
      host_.get()[i] = value_as<C>(load_element<T>(from + i * static_cast<index_t>(sizeof(T))));
    auto const staged = col_major(host_.get(), cols_, n);
    auto const part = sum_.view().columns(0, n);
    be_.copy(staged, part);
    for (auto const& p : products_)
      be_.gemm(p.factor, p.right.view().transposed(), p.left.view().columns(first, n), 1.0, part);
    be_.copy(part, staged);
    be_.synchronize();
    return staged;
  }
  template <class F>
  void for_each_piece(F const& f) {
    [[maybe_unused]] auto const precise = be_.full_precision();
    for (index_t first = 0; first < rows_; first += step_) {
      index_t const n = std::min(step_, rows_ - first);
      f(first, rows(first, n));
    }
  }
  /// The lengths N are those of the sum itself, which is at hand: nothing can cancel. A row of 0 stays 0.
  void measure(record_matrix const& magnitude) {
    ratio_.assign(magnitude.values.size(), 0);
    for_each_piece([&](index_t first, auto piece) {
      for (index_t j = 0; j < piece.cols; ++j)
        for (index_t i = 0; i < piece.rows; ++i) {
          auto const x = static_cast<double>(piece(i, j));
          ratio_[output(i, first + j)] += x * x;
        }
    });
    for (std::size_t i = 0; i < ratio_.size(); ++i)
      ratio_[i] = ratio_[i] > 0 ? static_cast<double>(magnitude.values[i]) / std::sqrt(ratio_[i]) : 1;
  }
  std::size_t output(index_t col, index_t row) const { return static_cast<std::size_t>(transposed_ ? col : row); }

 public:
  weight_change(B& be, stored_tensor const& w, std::vector<adapter_record> const& changes, double sign, bool in_by_out)
      : be_(be),
        w_(w),
        rows_(w.rows()),
        cols_(w.cols()),
        step_(std::max<index_t>(1, std::min(rows_, (index_t{1} << 21) / cols_))),  // at most so many elements at a time
        host_(be.template allocate_host<C>(step_ * cols_)),
        sum_(be, cols_, step_) {
    for (auto const& r : changes) {
      auto const plain = without_e(r);
      auto b = uploaded<C>(be, plain.b.view().transposed()), a = uploaded<C>(be, plain.a.view());
      products_.push_back({sign * r.scale, std::move(b), std::move(a)});
      transposed_ = is_stored_transposed(r.layer, w, in_by_out);
      if (transposed_) std::swap(products_.back().left, products_.back().right);
    }
    if (changes[0].has_magnitude()) measure(changes[0].magnitude);
  }
  std::vector<std::byte> bytes() {
    std::vector<std::byte> to(w_.bytes.size());
    for_each_piece([&](index_t first, auto piece) {
      auto* p = to.data() + first * cols_ * static_cast<index_t>(sizeof(T));
      for (index_t j = 0; j < piece.cols; ++j)
        for (index_t i = 0; i < piece.rows; ++i, p += sizeof(T)) {
          C value = piece(i, j);
          if (!ratio_.empty()) value = static_cast<C>(ratio_[output(i, first + j)] * static_cast<double>(value));
          T const x = static_cast<T>(value);
          std::memcpy(p, &x, sizeof(T));
        }
    });
    return to;
  }
};

/// A tensor's elements in another floating-point type.  errors  format_error for other types
inline std::vector<std::byte> converted(stored_tensor const& from, dtype type) {
  auto const n = static_cast<std::size_t>(element_count(from.shape, from.label));
  std::vector<std::byte> to(n * static_cast<std::size_t>(dtype_bits(type)) / 8);
  with_float_type(from.type, from.label, "dtype", [&]<class From>(From) {
    with_float_type(type, from.label, "dtype", [&]<class To>(To) {
      for (std::size_t i = 0; i < n; ++i) {
        auto const x =
            static_cast<To>(value_as<compute_t<To>>(load_element<From>(from.bytes.data() + i * sizeof(From))));
        std::memcpy(to.data() + i * sizeof(To), &x, sizeof(To));
      }
    });
  });
  return to;
}

}  // namespace loraga::format
