#pragma once
#include <loraga/core/error.hpp>
#include <string>

namespace data {

/// A data set's parts: to train on, to choose learning rates by, and to report.
template <class S>
struct parts {
  S train, validation, test;

  /// errors  value_error
  S const& part(std::string const& name) const {
    if (name == "test") return test;
    if (name == "validation") return validation;
    loraga::raise<loraga::value_error>("parts", "part", "'" + name + "'", "test or validation");
  }
};

}  // namespace data
