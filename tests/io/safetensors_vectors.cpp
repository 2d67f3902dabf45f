#include <loraga/io/safetensors.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

// Files that must be read or refused, with the answers of the Python package safetensors (tests/interop/vectors.py).

using namespace loraga;

namespace {

std::string from_hex(std::string const& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}
std::string to_hex(std::span<std::byte const> bytes) {
  std::string hex;
  for (std::byte const b : bytes)
    for (int const digit : {static_cast<int>(b) >> 4, static_cast<int>(b) & 15}) hex += "0123456789abcdef"[digit];
  return hex;
}
nlohmann::json tensors_of(safetensors_file const& file) {
  auto all = nlohmann::json::object();
  for (auto const& t : file.tensors()) all[t.name] = {dtype_name(t.type), t.shape, to_hex(file[t.name].bytes)};
  return all;
}

}  // namespace

TEST_CASE("files are read or refused as by the Python package, or more strictly where a vector says so", "[io]") {
  auto const path = std::filesystem::path(LORAGA_TEST_DATA) / "interop/reference/safetensors_vectors.json";
  auto const vectors = nlohmann::json::parse(test::read_file(path));
  REQUIRE(vectors.size() > 150);
  test::folder folder;
  int read = 0, refused = 0, stricter = 0;
  for (auto const& v : vectors) {
    INFO(v["name"]);
    auto const file = folder / "vector.safetensors";
    test::write_file(file, from_hex(v["hex"]));
    if (v["ours"] == "accept") {
      CHECK(v["package"] == "accept");
      CHECK(tensors_of(safetensors_file(file)) == v["tensors"]);
      ++read;
    } else {
      CHECK_THROWS_AS(safetensors_file(file), format_error);
      CHECK_THAT(test::message_of([&] { safetensors_file{file}; }), Catch::StartsWith(file.string()));
      CHECK((v["package"] == "reject" || v.contains("stricter")));
      ++refused;
      stricter += v["package"] == "accept";
    }
  }
  CHECK(read > 50);
  CHECK(refused > 90);
  CHECK(stricter == 10);
}
