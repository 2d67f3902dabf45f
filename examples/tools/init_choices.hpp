#pragma once
#include "init_options.hpp"

// The choices of a start by their names; as std::optional where one may be left out.

namespace tools {

template <class T>
using named_choices = std::vector<std::pair<std::string, T>>;

inline named_choices<start_method> names_of_methods() {
  named_choices<start_method> methods;
  for (auto const& m : all_methods()) methods.push_back({m.name, m.method});
  return methods;
}
template <class T = ga_directions>
named_choices<T> names_of_directions() {
  return {{"ArB2r", ga_directions::ArB2r},
          {"A2rBr", ga_directions::A2rBr},
          {"ArBr", ga_directions::ArBr},
          {"random", ga_directions::random}};
}
template <class T = ga_scale>
named_choices<T> names_of_scales() {
  return {{"stable", ga_scale::stable},
          {"gd", ga_scale::gd},
          {"unit", ga_scale::unit},
          {"weight_svd", ga_scale::weight_svd},
          {"peft_stable", ga_scale::peft_stable},
          {"peft_weight_svd", ga_scale::peft_weight_svd}};
}
template <class T = corda_part>
named_choices<T> names_of_parts() {
  return {{"ipm", corda_part::ipm}, {"kpm", corda_part::kpm}};
}
inline named_choices<svd_quality> names_of_qualities() {
  return {{"balanced", svd_quality::balanced}, {"tight", svd_quality::tight}};
}

}  // namespace tools
