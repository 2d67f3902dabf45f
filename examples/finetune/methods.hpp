#pragma once
#include <loraga/core/config.hpp>
#include <string>
#include <vector>

namespace finetune {

enum class start { full, kaiming, pissa, gradient, random_matrix };

/// What is trained and how it starts. All adapters are the same class; only the policies differ.
struct method {
  std::string name;
  start how;
  bool rank_stable = false;  ///< s = alpha/sqrt(r) instead of alpha/r
  double ratio = 1;          ///< LoRA+
  double gamma = 0;          ///< LoRA-GA
};

/// The methods of the comparison, LoRA-GA and its random control once per gamma.
inline std::vector<method> all_methods(std::vector<double> const& gammas) {
  std::vector<method> m{{"full", start::full},
                        {"lora", start::kaiming},
                        {"rslora", start::kaiming, true},
                        {"lora+", start::kaiming, false, 16},
                        {"pissa", start::pissa}};
  auto const number = [](double g) {
    auto text = std::to_string(g);
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
    return text;
  };
  for (double const g : gammas) m.push_back({"lora-ga-" + number(g), start::gradient, true, 1, g});
  for (double const g : gammas) m.push_back({"ga-random-" + number(g), start::random_matrix, true, 1, g});
  return m;
}

struct settings {
  loraga::index_t rank = 8;
  double alpha = 16;
  loraga::index_t steps = 100, batch = 32, evaluate_every = 5;
  loraga::index_t sample_batches = 8, sample_batch = 64;
};

}  // namespace finetune
