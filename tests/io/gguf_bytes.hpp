#pragma once
#include <loraga/io/gguf.hpp>

// GGUF files written by hand, right and wrong ones.

namespace test {

/// What a hand-written file holds; its parts can be changed before it is put together.
struct gguf_builder {
  struct tensor {
    std::string name;
    std::vector<std::uint64_t> ne;
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
  };
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  loraga::format::gguf_bytes entries{};
  std::uint64_t entry_count = 0;
  std::vector<tensor> tensors;
  std::string data;

  void entry(std::string_view key, auto value) { entries.entry(key, value), ++entry_count; }
  template <class T>
  void number(std::string_view key, std::uint32_t kind, T x) {
    entries.text(key);
    entries.number(kind);
    entries.number(x);
    ++entry_count;
  }
  void list(std::string_view key, std::uint32_t kind, std::uint64_t count) {
    entries.text(key);
    entries.number<std::uint32_t>(9);
    entries.number(kind);
    entries.number(count);
    ++entry_count;
  }
  std::string bytes(std::size_t alignment = 32) const {
    loraga::format::gguf_bytes all{magic};
    all.number(version);
    all.number<std::uint64_t>(tensors.size());
    all.number(entry_count);
    all.bytes += entries.bytes;
    for (auto const& t : tensors) {
      all.text(t.name);
      all.number(static_cast<std::uint32_t>(t.ne.size()));
      for (auto const n : t.ne) all.number(n);
      all.number(t.type);
      all.number(t.offset);
    }
    all.bytes.append((alignment - all.bytes.size() % alignment) % alignment, '\0');
    return all.bytes + data;
  }
};

}  // namespace test
