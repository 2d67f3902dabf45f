#include <loraga/io/gguf_blocks.hpp>
#include <vector>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("the table of ggml's types and what decodes them agree; others are refused by name") {
  int decoded = 0;
  for (auto const& facts : format::gguf_types) {
    INFO(facts.name);
    try {
      with_gguf_block(facts, "x", [&]<class Block>(Block) {
        CHECK(Block::elements == facts.elements);
        CHECK(static_cast<std::size_t>(Block::bytes) == facts.bytes);
        ++decoded;
      });
    } catch (format_error const& e) {
      CHECK(std::string_view(e.what()).find(facts.name) != std::string_view::npos);
    }
  }
  CHECK(decoded == 14);
}

TEST_CASE("a block of Q4_0 by hand: a scale, then low halves of the bytes, then high ones") {
  std::vector<std::byte> block(18);
  block[1] = std::byte{0xc0};  // -2 in 16 bits
  for (int i = 0; i < 16; ++i) block[static_cast<std::size_t>(2 + i)] = static_cast<std::byte>(i | (15 - i) << 4);
  float y[32];
  format::nibble_block<4, false>::decode(block.data(), y);
  for (int i = 0; i < 16; ++i) {
    CHECK(y[i] == -2.f * static_cast<float>(i - 8));
    CHECK(y[16 + i] == -2.f * static_cast<float>(7 - i));
  }
}
