#include <loraga/io/gguf_file.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "gguf_bytes.hpp"

using namespace loraga;

namespace {

struct written_file : test::folder {
  gguf_file file;
  explicit written_file(test::gguf_builder const& b)
      : file((test::write_file(*this / "x.gguf", b.bytes()), *this / "x.gguf")) {}
};

/// Whether f throws a format_error that says `part`.
template <class F>
bool refuses(F&& f, char const* part) {
  try {
    f();
  } catch (format_error const& e) {
    return std::string_view(e.what()).find(part) != std::string_view::npos;
  }
  return false;
}

std::filesystem::path const reference = std::filesystem::path(LORAGA_TEST_DATA) / "interop/reference/gguf";

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }

}  // namespace

TEST_CASE("blocks of every type are decoded to the bits of the package gguf, into any view") {
  gguf_file const file(reference / "blocks.gguf");
  mapped_file const floats(reference / "blocks.f32");
  auto const* expected = floats.bytes().data();
  CHECK(file.tensors().size() == 14);
  for (auto const& info : file.tensors()) {
    INFO(info.name);
    auto const t = file[info.name];
    std::vector<float> rows(static_cast<std::size_t>(t.rows() * t.cols())), cols(rows.size());
    std::vector<bf16> shorter(rows.size());
    read_rows(t, 0, row_major(rows.data(), t.rows(), t.cols()));
    read_rows(t, 0, col_major(cols.data(), t.rows(), t.cols()));
    read_rows(t, 0, row_major(shorter.data(), t.rows(), t.cols()));
    std::vector<float> last(static_cast<std::size_t>(t.cols()));
    read_rows(t, t.rows() - 1, row_major(last.data(), 1, t.cols()));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < rows.size(); ++i, expected += 4) {
      float const x = load_element<float>(expected);
      auto const row = static_cast<index_t>(i) / t.cols(), col = static_cast<index_t>(i) % t.cols();
      wrong += !same_bits(rows[i], x) + !same_bits(cols[static_cast<std::size_t>(col * t.rows() + row)], x);
      wrong += shorter[i].bits != bf16(x).bits && !std::isnan(x);
      if (row == t.rows() - 1) wrong += !same_bits(last[static_cast<std::size_t>(col)], x);
    }
    CHECK(wrong == 0);
  }
  CHECK(expected == floats.bytes().data() + floats.bytes().size());
}

TEST_CASE("rows of a GGUF tensor: what does not fit is refused, and nothing is written") {
  gguf_file const file(reference / "blocks.gguf");
  auto const t = file["Q4_K"];
  std::vector<float> to(3 * 256, 7);
  CHECK_THROWS_AS(read_rows(t, 0, row_major(to.data(), 2, 255)), shape_error);
  CHECK_THROWS_AS(read_rows(t, 0, row_major(to.data(), 3, 256)), value_error);
  CHECK_THROWS_AS(read_rows(t, 2, row_major(to.data(), 1, 256)), value_error);
  CHECK_THROWS_AS(read_rows(t, -1, row_major(to.data(), 1, 256)), value_error);
  CHECK_NOTHROW(read_rows(t, 2, row_major(to.data(), 0, 256)));
  CHECK(to == std::vector<float>(3 * 256, 7));
}

TEST_CASE("a type that is not decoded is refused by name, and the rest of the file can be read") {
  test::gguf_builder b;
  b.tensors = {{"a", {256}, 23, 0}, {"b", {2}, 0, 160}};
  b.data = std::string(168, '\0');
  written_file const on_disk(b);
  auto const& file = on_disk.file;
  float to[256];
  CHECK(refuses([&] { read_rows(file["a"], 0, row_major(to, 1, 256)); }, "IQ4_XS"));
  CHECK_NOTHROW(read_rows(file["b"], 0, row_major(to, 1, 2)));
  CHECK(refuses([&] { file["c"]; }, "missing"));
}

TEST_CASE("metadata are read by key and type") {
  test::gguf_builder b;
  b.entry("text", "llama");
  b.number<std::uint32_t>("small", 4, 30);
  b.number<std::uint64_t>("large", 10, ~std::uint64_t{0});
  b.number<std::uint64_t>("negative", 11, static_cast<std::uint64_t>(-5));
  b.entry("real", 0.5f);
  b.number<std::uint8_t>("yes", 7, 1);
  b.list("numbers", 5, 3);
  for (int const x : {1, -2, 3}) b.entries.number(static_cast<std::uint32_t>(x));
  b.list("texts", 8, 2);
  for (auto const* x : {"a", "bc"}) b.entries.text(x);
  written_file const on_disk(b);
  auto const& file = on_disk.file;
  CHECK(file.text("text") == "llama");
  CHECK(file.number<index_t>("small") == 30);
  CHECK(file.number<std::uint64_t>("large") == ~std::uint64_t{0});
  CHECK(refuses([&] { file.number<index_t>("large"); }, "in range"));
  CHECK(file.number<int>("negative") == -5);
  CHECK_THROWS_AS(file.number<unsigned>("negative"), format_error);
  CHECK(file.number<float>("real") == 0.5f);
  CHECK_THROWS_AS(file.number<int>("real"), format_error);
  CHECK(file.number_or<int>("none", 7) == 7);
  CHECK(file.flag_or("yes", false));
  CHECK(file.flag_or("none", true));
  CHECK(file.numbers<int>("numbers") == std::vector{1, -2, 3});
  CHECK(file.texts("texts") == std::vector<std::string>{"a", "bc"});
  CHECK(refuses([&] { file.text("none"); }, "none is missing, expected a text"));
  CHECK(refuses([&] { file.text("small"); }, "of another type"));
  CHECK(refuses([&] { file.texts("text"); }, "of another type"));
  CHECK(refuses([&] { file.number<int>("yes"); }, "of another type"));
  CHECK(!file.has("none"));
}
