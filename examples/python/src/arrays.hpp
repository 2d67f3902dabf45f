#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <loraga/backend/instances.hpp>
#include <variant>

// Arrays of numpy, torch and all who speak DLPack or the buffer protocol, as views; and the library's matrices as numpy
// arrays. Nothing is copied on the way in, nor on the way out.

namespace python {

namespace nb = nanobind;
using namespace loraga;

/// An argument of a type that cannot be meant; Python sees a TypeError.
struct type_refused : error {
  using error::error;
};

template <class T>
using reading = const_view<T, host_space>;
template <class T>
using writing = matrix_view<T, host_space>;

/// float32, float64, float16 or bfloat16.
template <class T>
inline constexpr char const* name_of_type = std::is_same_v<T, float>    ? "float32"
                                            : std::is_same_v<T, double> ? "float64"
                                            : std::is_same_v<T, fp16>   ? "float16"
                                                                        : "bfloat16";

/// An array that the function at hand may read: a view, and a hold on whoever owns the memory.
class input_array {
  nb::ndarray<nb::ro> held_;
  std::variant<reading<float>, reading<double>, reading<fp16>, reading<bf16>> view_;

  input_array(nb::handle from, std::string_view where, std::string_view name, bool tokens);

 public:
  /// A matrix: rows x cols.
  /// errors  type_refused for what is no array, or of another type; value_error for memory that is not the CPU's;
  ///         shape_error for other numbers of dimensions, and for strides that products cannot use
  static input_array matrix(nb::handle from, std::string_view where, std::string_view name) {
    return {from, where, name, false};
  }
  /// What goes through a layer, its last dimension features and the others tokens: seen as features x tokens.
  /// errors  as matrix; shape_error for tokens that do not lie one behind the other
  static input_array activations(nb::handle from, std::string_view where, std::string_view name) {
    return {from, where, name, true};
  }

  index_t rows() const {
    return std::visit([](auto v) { return v.rows; }, view_);
  }
  index_t cols() const {
    return std::visit([](auto v) { return v.cols; }, view_);
  }
  char const* type() const {
    return std::visit([](auto v) { return name_of_type<typename decltype(v)::value_type>; }, view_);
  }
  bool is_double() const { return std::holds_alternative<reading<double>>(view_); }
  template <class F>
  decltype(auto) visit(F&& f) const {
    return std::visit(f, view_);
  }

  /// Whether `as<T>` is the array's own memory.
  template <class T>
  bool is() const {
    return std::holds_alternative<reading<T>>(view_);
  }
  /// The array in T: itself, or widened into `memory`. No number is ever rounded.
  /// errors  type_refused where T is the narrower type
  template <class T>
  reading<T> as(cpu& be, loraga::matrix<T, cpu>& memory, std::string_view where, std::string_view name) const {
    return std::visit(
        [&]<class U>(reading<U> v) -> reading<T> {
          if constexpr (std::is_same_v<U, T>) return v;
          else if constexpr (sizeof(U) < sizeof(T)) {
            memory = {be, v.rows, v.cols};
            convert(be, v, memory.view());
            return memory.view();
          } else {
            require_type<T>(where, name);
            return {};
          }
        },
        view_);
  }
  /// Throws unless T holds all its numbers exactly.
  template <class T>
  void require_type(std::string_view where, std::string_view name) const {
    if (std::is_same_v<T, float> && is_double())
      raise<type_refused>(where, name, "float64", "float32, float16 or bfloat16, as what it goes with is float32");
  }
};

/// A matrix that the function at hand changes.
class output_array {
  nb::ndarray<> held_;
  std::variant<writing<float>, writing<double>, writing<fp16>, writing<bf16>> view_;

 public:
  /// errors  as input_array's; value_error for an array that may only be read
  output_array(nb::handle from, std::string_view where, std::string_view name);
  auto const& view() const { return view_; }  ///< one of four types
  template <class F>
  decltype(auto) visit(F&& f) const {
    return std::visit(f, view_);
  }
  loraga::detail::footprint place() const {
    return visit([](auto v) { return loraga::detail::footprint::of(v); });
  }
  index_t rows() const {
    return visit([](auto v) { return v.rows; });
  }
  index_t cols() const {
    return visit([](auto v) { return v.cols; });
  }
};

/// Throws numeric_error where a number is NaN or infinity.
/// cost    one pass over it
template <class T>
void require_finite(cpu& be, reading<T> v, std::string_view where, std::string_view name) {
  if (v.rows == 0 || v.cols == 0) return;
  scratch<cpu> temporary(be);
  auto const cell = temporary.matrix<double>(1, 1);
  max_abs(be, v, cell);
  if (!is_finite(cell(0, 0))) raise<numeric_error>(where, name, "not finite (NaN or infinity)", "finite numbers");
}

/// rows x cols numbers as a numpy array that owns them, row by row, or column by column.
template <class T>
nb::object numpy_array(std::vector<T> values, index_t rows, index_t cols, bool by_columns = false) {
  auto* const owned = new std::vector<T>(std::move(values));
  nb::capsule const owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  auto const m = static_cast<std::size_t>(rows), n = static_cast<std::size_t>(cols);
  auto const strides = by_columns ? std::array<std::int64_t, 2>{1, rows} : std::array<std::int64_t, 2>{cols, 1};
  std::array<std::size_t, 2> const shape{m, n};
  return nb::cast(nb::ndarray<nb::numpy, T>(owned->data(), 2, shape.data(), owner, strides.data()));
}
template <class T>
nb::object numpy_column(std::vector<T> values) {
  auto* const owned = new std::vector<T>(std::move(values));
  nb::capsule const owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  std::size_t const size = owned->size();
  return nb::cast(nb::ndarray<nb::numpy, T>(owned->data(), 1, &size, owner));
}

/// A backend for one call: calls that run at the same time have their own, with their memory kept for the next one.
class lease {
  std::unique_ptr<cpu> mine_;

 public:
  lease();
  ~lease();
  lease(lease const&) = delete;
  lease& operator=(lease const&) = delete;
  cpu& operator*() const { return *mine_; }
};
/// How many threads a call uses.
int threads();
/// errors  value_error if it is below 1
void set_threads(int n);

/// Between two layers: lets Python handle signals, so that Ctrl-C ends long work. The caller holds no GIL.
/// errors  nb::python_error with the KeyboardInterrupt
inline void let_signals_in() {
  nb::gil_scoped_acquire const hold;
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

void add_svd(nb::module_& m);
void add_estimates(nb::module_& m);
void add_starts(nb::module_& m);
void add_diagnostics(nb::module_& m);
void add_files(nb::module_& m);

}  // namespace python
