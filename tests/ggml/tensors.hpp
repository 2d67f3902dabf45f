#pragma once
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <loraga/cpu.hpp>
#include <random>

#include "../support/catch.hpp"

// Contexts, random tensors and plain references for the tests of the bridge.

namespace test {

using loraga::index_t;

/// A context, with memory of its tensors' unless told otherwise.
class context {
  ggml_context* held_;

 public:
  explicit context(bool no_alloc = false) : held_(ggml_init({std::size_t{64} << 20, nullptr, no_alloc})) {
    ggml_cpu_init();  // fills the tables of 16-bit numbers
  }
  context(context const&) = delete;
  context& operator=(context const&) = delete;
  ~context() { ggml_free(held_); }
  operator ggml_context*() const { return held_; }  // NOLINT: it stands for one
};

inline std::vector<float> normal(std::size_t n, unsigned seed, double deviation = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> draw(0, deviation);
  std::vector<float> values(n);
  for (float& x : values) x = static_cast<float>(draw(engine));
  return values;
}
/// Fills a contiguous tensor of any type that ggml can quantise to.
inline ggml_tensor* fill(ggml_tensor* t, unsigned seed, double deviation = 1) {
  auto const values = normal(static_cast<std::size_t>(ggml_nelements(t)), seed, deviation);
  ggml_quantize_chunk(t->type, values.data(), t->data, 0, ggml_nrows(t), t->ne[0], nullptr);
  return t;
}
inline ggml_tensor* matrix(ggml_context* c, ggml_type type, index_t ne0, index_t ne1, unsigned seed,
                           double deviation = 1) {
  return fill(ggml_new_tensor_2d(c, type, ne0, ne1), seed, deviation);
}
/// A tensor's numbers as ggml itself unpacks them, in the order of its memory.
inline std::vector<float> unpacked_by_ggml(ggml_tensor const* t) {
  auto const n = ggml_nelements(t);
  std::vector<float> values(static_cast<std::size_t>(n));
  if (t->type == GGML_TYPE_F32) std::copy_n(static_cast<float const*>(t->data), n, values.begin());
  else ggml_get_type_traits(t->type)->to_float(t->data, values.data(), n);
  return values;
}

/// A matrix in double, by columns.
struct reference {
  index_t rows, cols;
  std::vector<double> values;

  reference(index_t r, index_t c) : rows(r), cols(c), values(static_cast<std::size_t>(r * c)) {}
  /// ggml's rows become rows.
  explicit reference(ggml_tensor const* t) : reference(ggml_nrows(t), t->ne[0]) {
    auto const from = unpacked_by_ggml(t);
    for (index_t i = 0; i < rows; ++i)
      for (index_t j = 0; j < cols; ++j) (*this)(i, j) = from[static_cast<std::size_t>(i * cols + j)];
  }
  double& operator()(index_t i, index_t j) { return values[static_cast<std::size_t>(i + j * rows)]; }
  double operator()(index_t i, index_t j) const { return values[static_cast<std::size_t>(i + j * rows)]; }
  reference transposed() const {
    reference t(cols, rows);
    for (index_t i = 0; i < rows; ++i)
      for (index_t j = 0; j < cols; ++j) t(j, i) = (*this)(i, j);
    return t;
  }
};
inline reference operator*(reference const& a, reference const& b) {
  reference c(a.rows, b.cols);
  for (index_t j = 0; j < b.cols; ++j)
    for (index_t k = 0; k < a.cols; ++k)
      for (index_t i = 0; i < a.rows; ++i) c(i, j) += a(i, k) * b(k, j);
  return c;
}
inline reference operator*(double s, reference a) {
  for (double& x : a.values) x *= s;
  return a;
}
inline reference operator+(reference a, reference const& b) {
  for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += b.values[i];
  return a;
}
/// The largest difference, in parts of the largest number.
template <class V>
double difference(V const& found, reference const& expected) {
  REQUIRE(found.rows == expected.rows);
  REQUIRE(found.cols == expected.cols);
  double most = 0, largest = 0;
  for (index_t i = 0; i < found.rows; ++i)
    for (index_t j = 0; j < found.cols; ++j) {
      double const gap = std::abs(static_cast<double>(found(i, j)) - expected(i, j));
      most = gap <= most ? most : gap;  // NaN counts
      largest = std::max(largest, std::abs(expected(i, j)));
    }
  return most / largest;
}

/// The text of what f throws.
template <class E, class F>
std::string thrown(F&& f) {
  try {
    f();
  } catch (E const& e) {
    return e.what();
  }
  return "nothing of that type";
}
inline bool contains(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

/// A buffer type of the CPU whose tensors lie in another order; null where this ggml was built without.
inline ggml_backend_buffer_type_t repacked_buffers() {
  auto* const device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  auto const extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
  for (auto* type = extra ? extra(device) : nullptr; type && *type; ++type)
    if (!ggml_backend_buft_is_host(*type)) return *type;
  return nullptr;
}

}  // namespace test
