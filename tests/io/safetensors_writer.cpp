#include <loraga/io/safetensors_writer.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

TEST_CASE("a file has the bytes of the Python package", "[io]") {
  // save_file({"b": float32 [[1,2]], "a": float32 scalar 3, "i": int64 [4], "h": bfloat16 [1.5]}, metadata={"format":
  // "pt"})
  std::string const header =
      R"({"__metadata__":{"format":"pt"},"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[1,2],"data_offsets":[12,20]},)"
      R"("h":{"dtype":"BF16","shape":[1],"data_offsets":[20,22]}})";
  test::folder const folder;
  safetensors_writer w(
      folder / "f", {{"b", dtype::F32, {1, 2}}, {"h", dtype::BF16, {1}}, {"a", dtype::F32, {}}, {"i", dtype::I64, {1}}},
      {{"format", "pt"}});
  float const b[] = {1, 2}, a = 3;
  bf16 const h(1.5f);
  index_t const i = 4;
  w.write("h", row_major(&h, 1, 1));
  w.write("b", row_major(b, 1, 2));
  w.write("i", row_major(&i, 1, 1));
  w.write("a", row_major(&a, 1, 1));
  w.commit();
  auto const bytes = test::read_file(folder / "f");
  std::size_t const padded = (header.size() + 7) / 8 * 8;
  REQUIRE(bytes.size() == 8 + padded + 22);
  CHECK(static_cast<unsigned char>(bytes[0]) + 256 * static_cast<unsigned char>(bytes[1]) == static_cast<int>(padded));
  CHECK(bytes.substr(8, header.size()) == header);
  CHECK(bytes.substr(8 + header.size(), padded - header.size()) == std::string(padded - header.size(), ' '));
  CHECK(bytes.substr(8 + padded, 8) == std::string("\4\0\0\0\0\0\0\0", 8));
  CHECK(bytes.substr(8 + padded + 20) == "\xc0\x3f");
}

TEST_CASE("what is written is read, in any layout", "[io]") {
  test::folder const folder;
  double const x[] = {1, 2, 3, 4, 5, 6};
  std::string const name = "a \"quoted\"\n\x01\x7f \xc3\xa9";
  safetensors_writer w(folder / "f", {{name, dtype::F64, {3, 2}}, {"empty", dtype::U8, {0, 7}}});
  w.write(name, col_major(x, 3, 2));
  w.commit();
  safetensors_file const f(folder / "f");
  CHECK(f[name].view<double>()(1, 1) == 5);
  CHECK(f["empty"].bytes.empty());
  CHECK(f.metadata().empty());
}

TEST_CASE("what does not fit is refused by name, and nothing appears", "[io]") {
  test::folder const folder;
  auto const path = folder / "f";
  CHECK_THROWS_WITH(safetensors_writer(path, {{"x", dtype::F32, {1}}, {"x", dtype::U8, {1}}}),
                    Catch::Contains("'x', twice"));
  CHECK_THROWS_AS(safetensors_writer(path, {{"__metadata__", dtype::F32, {1}}}), value_error);
  CHECK_THROWS_AS(safetensors_writer(path, {{"\xff", dtype::F32, {1}}}), value_error);
  CHECK_THROWS_AS(safetensors_writer(path, {{"x", dtype::F32, {-1}}}), value_error);
  CHECK_THROWS_AS(safetensors_writer(path, {{"x", dtype::F4, {3}}}), value_error);
  CHECK_THROWS_AS(safetensors_writer(path, {{"x", dtype::F32, {index_t{1} << 40, index_t{1} << 40}}}), value_error);
  CHECK_THROWS_AS(safetensors_writer(folder / "missing" / "f", {}), file_error);
  {
    safetensors_writer w(path, {{"x", dtype::F32, {2}}, {"y", dtype::F32, {1}}});
    float const x[] = {1, 2};
    CHECK_THROWS_AS(w.write("x", row_major(x, 1, 2)), shape_error);
    CHECK_THROWS_AS(w.write("z", row_major(x, 2, 1)), value_error);
    CHECK_THROWS_AS(w.write("x", std::as_bytes(std::span(x, 1))), shape_error);
    double const d[] = {1, 2};
    CHECK_THROWS_AS(w.write("x", row_major(d, 2, 1)), value_error);
    w.write("x", row_major(x, 2, 1));
    CHECK_THROWS_AS(w.write("x", row_major(x, 2, 1)), state_error);
    CHECK_THROWS_WITH(w.commit(), Catch::Contains("'y'") && Catch::Contains("not written"));
  }
  CHECK(folder.count() == 0);
}
