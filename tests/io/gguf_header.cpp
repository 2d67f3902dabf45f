#include <loraga/io/gguf_header.hpp>

#include "../support/catch.hpp"
#include "gguf_bytes.hpp"

using namespace loraga;
using test::gguf_builder;

namespace {

gguf_header parse(std::string const& bytes) { return parse_gguf(std::as_bytes(std::span(bytes)), "x.gguf"); }
gguf_header parse(gguf_builder const& b) { return parse(b.bytes()); }
/// What is said of a file that is refused as one of that format; empty if it is not.
std::string refusal(std::string const& bytes) {
  try {
    parse(bytes);
  } catch (format_error const& e) {
    return e.what();
  }
  return "";
}

gguf_builder two_tensors() {
  gguf_builder b;
  b.entry("general.architecture", "llama");
  b.entry("llama.eps", 1e-5f);
  b.list("some.texts", 8, 2);
  b.entries.text("a");
  b.entries.text("");
  b.tensors = {{"w", {32, 2}, 2, 0}, {"norm", {3}, 0, 64}};
  b.data = std::string(64 + 12, 'x');
  return b;
}

}  // namespace

TEST_CASE("a GGUF header tells tensors and metadata") {
  auto const b = two_tensors();
  auto const bytes = b.bytes();
  auto const h = parse(bytes);
  CHECK(h.version == 3);
  REQUIRE(h.tensors.size() == 2);
  CHECK(h.tensors[0].name == "w");
  CHECK(h.tensors[0].facts.name == "Q4_0");
  CHECK(h.tensors[0].shape == std::vector<index_t>{2, 32});
  CHECK(h.tensors[0].end - h.tensors[0].begin == 2 * 18);
  CHECK(h.tensors[1].shape == std::vector<index_t>{3});
  CHECK(h.tensors[1].end == bytes.size());
  REQUIRE(h.metadata.size() == 3);
  CHECK(h.metadata.at("some.texts").is_list);
  CHECK(h.metadata.at("some.texts").count == 2);
  CHECK(h.metadata.at("llama.eps").what == gguf_value::f32);
}

TEST_CASE("tensors are told as they lie, whatever the table's order; other alignments and version 2 are read") {
  auto b = two_tensors();
  std::swap(b.tensors[0], b.tensors[1]);
  CHECK(parse(b).tensors[0].name == "w");
  b.version = 2;
  CHECK(parse(b).version == 2);
  b.number<std::uint32_t>("general.alignment", 4, 8);
  b.tensors[0].offset = 40;
  CHECK(parse(b.bytes(8)).tensors[1].begin % 8 == 0);
}

TEST_CASE("a GGUF file cut off anywhere is refused by name") {
  auto const whole = two_tensors().bytes();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    INFO(n);
    CHECK(refusal(whole.substr(0, n)).starts_with("x.gguf"));
  }
}

TEST_CASE("wrong GGUF files are refused by name") {
  auto const refused = [](auto change, char const* part) {
    auto b = two_tensors();
    change(b);
    INFO(part);
    CHECK(refusal(b.bytes()).find(part) != std::string::npos);
  };
  using B = gguf_builder&;
  refused([](B b) { b.magic = "GGML"; }, "no GGUF");
  refused([](B b) { b.version = 1; }, "version is 1");
  refused([](B b) { b.version = 0x03000000; }, "big-endian");
  refused([](B b) { b.entry("llama.eps", 1e-5f); }, "'llama.eps' is there a second time");
  refused([](B b) { b.tensors[1].name = "w"; }, "tensor 'w' is there a second time");
  refused([](B b) { b.number<std::uint8_t>("k", 13, 1); }, "'k' is of type 13");
  refused([](B b) { b.list("k", 9, 1); }, "a list of lists");
  refused([](B b) { b.list("k", 8, std::uint64_t{1} << 60); }, "cut off");
  refused([](B b) { b.list("k", 12, std::uint64_t{1} << 61); }, "cut off");
  refused([](B b) { b.entry_count = std::uint64_t{1} << 63; }, "cut off");
  refused([](B b) { b.number<std::uint32_t>("general.alignment", 4, 24); }, "general.alignment is 24");
  refused([](B b) { b.number<std::uint32_t>("general.alignment", 4, 0); }, "general.alignment is 0");
  refused([](B b) { b.number<std::uint8_t>("general.alignment", 0, 32); }, "no 32-bit number");
  refused([](B b) { b.tensors[0].ne = {}; }, "tensor 'w' is of 0 dimensions");
  refused([](B b) { b.tensors[0].ne = {32, 1, 1, 1, 2}; }, "of 5 dimensions");
  refused([](B b) { b.tensors[0].ne = {32, std::uint64_t{1} << 60}; }, "2^59");
  refused([](B b) { b.tensors[0].ne = {32, std::uint64_t{1} << 30, std::uint64_t{1} << 30}; }, "2^59");
  refused([](B b) { b.tensors[0].ne = {32, std::uint64_t{1} << 54}; }, "fewer than 2^59");
  refused([](B b) { b.tensors[0].ne = {32, std::uint64_t{1} << 32, std::uint64_t{1} << 32}; }, "fewer than 2^59");
  refused([](B b) { b.tensors[0].ne = {31, 2}; }, "rows of 31");
  refused([](B b) { b.tensors[0].type = 4; }, "of type 4");
  refused([](B b) { b.tensors[0].type = 99; }, "newer than this reader");
  refused([](B b) { b.tensors[1].offset = 65; }, "at byte 65");
  refused([](B b) { b.tensors[1].offset = 32; }, "overlaps");
  refused([](B b) { b.tensors[1].offset = std::uint64_t{1} << 63; }, "general.alignment");
  refused([](B b) { b.tensors[1].offset = 1 << 20; }, "ends at byte");
  refused(
      [](B b) {
        b.tensors[0].name = "w\n\x1b[31m";
        b.tensors[0].type = 99;
      },
      "tensor 'w??[31m'");
}
