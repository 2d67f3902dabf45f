#pragma once
#include <loraga/core/bits.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace loraga {

/// Base of everything this library throws. Messages read "function: argument is X, expected Y".
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Sizes or strides that do not fit together.
struct shape_error : error {
  using error::error;
};
/// A number outside its range: rank 0, gamma <= 0, dropout 1.
struct value_error : error {
  using error::error;
};
/// Data that cannot be used: NaN or infinity in a gradient, a gradient that is zero.
struct numeric_error : error {
  using error::error;
};
/// A call that does not fit what happened before: reading an empty accumulator, merging twice.
struct state_error : error {
  using error::error;
};
/// An output that shares memory with an input.
struct alias_error : error {
  using error::error;
};
/// A failed call of the platform underneath (CUDA, a solver that did not converge), with its code.
struct backend_error : error {
  int code;
  backend_error(std::string const& what, int code_) : error(what), code(code_) {}
};

/// A file that cannot be opened, read or written, with errno.
struct file_error : error {
  int code;
  file_error(std::string const& what, int code_) : error(what), code(code_) {}
};
/// A file whose contents break its format.
struct format_error : error {
  using error::error;
};

/// Throws E with the message "where: argument is found, expected expected". It stands outside of the check, so that a
/// check that passes builds no string.
template <class E>
[[noreturn, gnu::cold, gnu::noinline]] void raise(std::string_view where, std::string_view argument,
                                                  std::string const& found, std::string_view expected) {
  throw E(std::string(where) + ": " + std::string(argument) + " is " + found + ", expected " + std::string(expected));
}

/// Throws value_error, naming the value, unless `ok`.
inline void require_value(bool ok, double value, std::string_view where, std::string_view argument,
                          std::string_view expected) {
  if (!ok) raise<value_error>(where, argument, std::to_string(value), expected);
}

/// What messages call the layer at a position of a list.
inline std::string layer_label(std::string const& name, std::size_t position) {
  return name.empty() ? "layer " + std::to_string(position) : name;
}

}  // namespace loraga
