#pragma once
#include "models.hpp"
#include "records.hpp"

// Adapter folders as PEFT writes them, made without this library's writer.

namespace test {

/// A and B of a linear layer, by PEFT's names, and what they add to W at s = 2.
struct factors {
  std::string module;
  host b, a;
  factors(std::string name, index_t out, index_t in, std::uint64_t seed)
      : module(std::move(name)), b(random(out, 2, seed)), a(random(2, in, seed + 1)) {}
  host change() const { return 2.0 * (b * a); }
  named_weights tensors() const {
    auto const key = "base_model.model." + module;
    return {{key + ".lora_A.weight", a}, {key + ".lora_B.weight", b}};
  }
  named_weights embedding_tensors() const {
    auto const key = "base_model.model." + module;
    return {{key + ".lora_embedding_A", a}, {key + ".lora_embedding_B", b}};
  }
};
inline named_weights operator+(named_weights a, named_weights const& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
inline std::filesystem::path write_adapter(std::filesystem::path const& to, named_weights const& tensors,
                                           std::string const& more = {}) {
  std::filesystem::remove_all(to);
  std::filesystem::create_directories(to);
  write_model(to / "adapter_model.safetensors", tensors);
  write_file(to / "adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4" + more + "}");
  return to;
}

}  // namespace test
