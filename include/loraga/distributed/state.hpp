#pragma once
#include <loraga/core/view.hpp>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

// What an accumulator holds, taken from its visit_state by name, so that ranks can join theirs without the accumulator
// knowing of ranks.

namespace loraga::detail {

/// errors  value_error for a null pointer, state_error for an accumulator that is there twice
template <class G>
void require_members(std::span<G* const> members) {
  std::map<G const*, std::size_t> seen;
  for (std::size_t i = 0; i < members.size(); ++i) {
    auto const name = "accumulator " + std::to_string(i);
    if (!members[i]) raise<value_error>("combine", name, "null", "an accumulator");
    auto const [at, fresh] = seen.emplace(members[i], i);
    if (!fresh) raise<state_error>("combine", name, "number " + std::to_string(at->second) + " as well", "each once");
  }
}

/// A visitor that keeps hold of an object's members. V is the type of its matrices.
template <class V>
class held_state {
  std::map<std::string, V, std::less<>> matrices_;
  std::map<std::string, double*, std::less<>> numbers_;
  std::map<std::string, index_t*, std::less<>> counts_;
  std::map<std::string, int*, std::less<>> flags_;
  std::map<std::string, bool*, std::less<>> truths_;
  std::string settings_;
  template <class M>
  static auto at(M const& all, std::string_view name) {
    auto const found = all.find(name);
    if (found == all.end())
      raise<state_error>("combine", std::string(name), "missing", "part of the accumulator's state");
    return found->second;
  }

 public:
  static constexpr bool changes = false;
  bool stores() const { return false; }

  template <class G>
  explicit held_state(G& g) {
    g.visit_state(*this);
  }
  template <class X>
  void operator()(std::string_view name, X&& x) {
    using U = std::remove_cvref_t<X>;
    std::string key(name);
    if constexpr (std::is_same_v<U, V>) matrices_.emplace(key, x);
    else if constexpr (std::is_same_v<U, double>) numbers_.emplace(key, &x);
    else if constexpr (std::is_same_v<U, index_t>) counts_.emplace(key, &x);
    else if constexpr (std::is_same_v<U, int>) flags_.emplace(key, &x);
    else if constexpr (std::is_same_v<U, bool>) truths_.emplace(key, &x);
  }
  template <class X>
  void same(std::string_view name, X const& x) {
    settings_ += ", " + std::string(name) + " " + std::to_string(x);
  }
  V matrix(std::string_view name) const { return at(matrices_, name); }
  double& number(std::string_view name) const { return *at(numbers_, name); }
  index_t& count(std::string_view name) const { return *at(counts_, name); }
  int& flags(std::string_view name) const { return *at(flags_, name); }
  bool& truth(std::string_view name) const { return *at(truths_, name); }
  /// What has to agree, for messages.
  std::string const& settings() const { return settings_; }
};

}  // namespace loraga::detail
