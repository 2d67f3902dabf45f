#include <loraga/io/safetensors.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

namespace {

std::string little_endian(std::uint64_t n) {
  std::string s;
  for (int i = 0; i < 8; ++i) s += static_cast<char>(n >> 8 * i & 0xff);
  return s;
}
std::string file_of(std::string const& json, std::string const& data) {
  return little_endian(json.size()) + json + data;
}
safetensors_header parse(std::string const& bytes, safetensors_options options = {}) {
  return parse_safetensors(std::as_bytes(std::span(bytes.data(), bytes.size())), "test", options);
}
std::string entry_of(std::string const& type, std::string const& shape, std::string const& offsets) {
  return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

/// Resident memory in bytes.
std::size_t resident() {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("a header is read as the format says", "[io]") {
  auto const h =
      parse(file_of(R"( {"__metadata__":{"a":"b"},"y":)" + entry_of("U8", "[2]", "[4,6]") + R"(,"x":)" +
                        entry_of("F32", "[]", "[0,4]") + R"(,"e":)" + entry_of("F32", "[3,0]", "[4,4]") + "}  \n",
                    "012345"));
  REQUIRE(h.tensors.size() == 3);
  CHECK(h.tensors[0].name == "x");
  CHECK(h.tensors[1].name == "e");
  CHECK(h.tensors[2].name == "y");
  CHECK(h.tensors[2].shape == std::vector<index_t>{2});
  CHECK(h.tensors[2].end - h.tensors[2].begin == 2);
  CHECK(h.metadata.at("a") == "b");
  CHECK(parse(file_of("{}", "")).tensors.empty());
}

TEST_CASE("broken files are refused by name", "[io]") {
  auto const refused = [](std::string const& bytes, std::string const& why) {
    auto const said = test::message_of([&] { parse(bytes); });
    INFO(said);
    CHECK_THAT(said, Catch::Contains(why));
    CHECK_THROWS_AS(parse(bytes), format_error);
  };
  auto const one = [](std::string const& entry) { return "{\"x\":" + entry + "}"; };
  refused("", "0 bytes");
  refused("1234567", "7 bytes");
  refused(little_endian(3) + "{}", "header length is 3");
  refused(little_endian(100'000'001) + "{}", "100000001");
  refused(little_endian(~std::uint64_t{0}) + "{}", "header length");
  refused(file_of("[]", ""), "no JSON object");
  refused(file_of(one(entry_of("F32", "[2]", "[0,4]")), "0123"), "one that fills its 4 bytes");
  refused(file_of(one(entry_of("F32", "[1]", "[0,8]")), "0123"), "data_offsets of 'x'");
  refused(file_of(one(entry_of("F32", "[1]", "[4,0]")), "0123"), "data_offsets");
  refused(file_of(one(entry_of("F32", "[1]", "[0]")), "0123"), "data_offsets");
  refused(file_of(one(entry_of("F32", "[-1]", "[0,4]")), "0123"), "shape of 'x'");
  refused(file_of(one(entry_of("F32", "[1.0]", "[0,4]")), "0123"), "shape of 'x'");
  refused(file_of(one(entry_of("F32", "[4611686018427387905]", "[0,4]")), "0123"), "shape of 'x'");
  refused(file_of(one(entry_of("F32", "[4294967296,4294967296]", "[0,0]")), ""), "below 2^64 bits");
  refused(file_of(one(entry_of("F4", "[3]", "[0,1]")), "0"), "[3] of F4");
  refused(file_of(one(entry_of("F5", "[1]", "[0,4]")), "0123"), "'F5'");
  refused(file_of(one("{\"dtype\":\"F32\"}"), ""), "missing");
  refused(file_of(one("7"), ""), "missing");
  refused(file_of("{\"__metadata__\":{\"a\":1}}", ""), "__metadata__.a");
  refused(file_of("{\"__metadata__\":[]}", ""), "__metadata__");
  auto const two = [&](std::string const& a, std::string const& b) {
    return "{\"a\":" + entry_of("U8", "[2]", a) + ",\"b\":" + entry_of("U8", "[2]", b) + "}";
  };
  refused(file_of(two("[0,2]", "[3,5]"), "01234"), "'b' is at byte 3");
  refused(file_of(two("[0,2]", "[1,3]"), "012"), "'b' is at byte 1");
  refused(file_of(two("[0,2]", "[0,2]"), "01"), "'b' is at byte 0");
  refused(file_of(two("[1,3]", "[3,5]"), "01234"), "'a' is at byte 1");
  refused(file_of(two("[0,2]", "[2,4]"), "01234"), "1 bytes after the last tensor");
  CHECK_NOTHROW(parse(file_of(two("[0,2]", "[2,4]"), "01234"), {.tolerate_trailing_bytes = true}));
}

TEST_CASE("views are the file's own memory, copies convert", "[io]") {
  test::folder const folder;
  float const x[] = {1, 2.5, -3, 4, 5, 6};
  std::string data(reinterpret_cast<char const*>(x), sizeof x);
  std::string json = "{\"x\":" + entry_of("F32", "[3,2]", "[0,24]") + "}";
  json.append((8 - json.size() % 8) % 8, ' ');
  test::write_file(folder / "aligned", file_of(json, data));
  test::write_file(folder / "odd", file_of(json + " ", data));
  safetensors_file const file(folder / "aligned"), odd(folder / "odd");
  auto const v = file["x"].view<float>();
  CHECK(v.rows == 3);
  CHECK(v(1, 0) == -3);
  CHECK(v.row_stride == 2);
  CHECK_THROWS_AS(file["x"].view<double>(), format_error);
  CHECK_THROWS_WITH(odd["x"].view<float>(), Catch::Contains("not aligned"));
  CHECK_THROWS_WITH(file["y"], Catch::Contains("'y' is missing"));
  CHECK(file.contains("x"));
  CHECK(!file.contains("y"));
  std::vector<bf16> narrow(6);
  read_matrix(odd["x"], row_major(narrow.data(), 3, 2));
  CHECK(static_cast<float>(narrow[1]) == 2.5f);
  std::vector<double> wide(6);
  read_matrix(odd["x"], col_major(wide.data(), 3, 2));
  CHECK(wide[1] == -3);
  CHECK_THROWS_AS(read_matrix(odd["x"], row_major(wide.data(), 2, 3)), shape_error);
  auto moved = safetensors_file(folder / "aligned");
  auto const again = std::move(moved);
  CHECK(again["x"].view<float>()(2, 1) == 6);
}

TEST_CASE("every floating-point type converts", "[io]") {
  auto const check = [](auto x, dtype type) {
    stored_tensor const t{"t", type, {1}, std::as_bytes(std::span(&x, 1))};
    double d = 0;
    float f = 0;
    fp16 h;
    read_matrix(t, row_major(&d, 1, 1));
    read_matrix(t, row_major(&f, 1, 1));
    read_matrix(t, row_major(&h, 1, 1));
    CHECK(d == -1.5);
    CHECK(f == -1.5f);
    CHECK(static_cast<float>(h) == -1.5f);
  };
  check(-1.5, dtype::F64);
  check(-1.5f, dtype::F32);
  check(fp16(-1.5f), dtype::F16);
  check(bf16(-1.5f), dtype::BF16);
  std::int32_t const i = 1;
  float f = 0;
  CHECK_THROWS_AS(
      read_matrix(stored_tensor{"t", dtype::I32, {1}, std::as_bytes(std::span(&i, 1))}, row_major(&f, 1, 1)),
      format_error);
}

TEST_CASE("more than two dimensions join after the first", "[io]") {
  stored_tensor const conv{"t", dtype::F32, {4, 3, 2, 2}, {}}, vector{"t", dtype::F32, {5}, {}},
      number{"t", dtype::F32, {}, {}};
  CHECK(conv.rows() == 4);
  CHECK(conv.cols() == 12);
  CHECK(vector.rows() == 5);
  CHECK(vector.cols() == 1);
  CHECK(number.rows() == 1);
  CHECK(number.cols() == 1);
}

TEST_CASE("a file of 10 GB is opened without reading it", "[io]") {
  test::folder const folder;
  std::string const rows = "1250000", bytes = "5000000000";
  std::string json = "{\"a\":" + entry_of("F32", "[" + rows + ",1000]", "[0," + bytes + "]") +
                     ",\"b\":" + entry_of("F32", "[" + rows + ",1000]", "[" + bytes + ",10000000000]") + "}";
  json.append((8 - json.size() % 8) % 8, ' ');
  test::write_file(folder / "large", file_of(json, ""));
  std::filesystem::resize_file(folder / "large", 8 + json.size() + 10'000'000'000);  // sparse
  {
    std::fstream f(folder / "large", std::ios::in | std::ios::out | std::ios::binary);
    float const x = 7;
    f.seekp(static_cast<std::streamoff>(8 + json.size() + 10'000'000'000 - sizeof x));
    f.write(reinterpret_cast<char const*>(&x), sizeof x);
  }
  auto const before = resident();
  safetensors_file const file(folder / "large");
  auto const b = file["b"].view<float>();
  CHECK(b(1249999, 999) == 7);
  CHECK(resident() - before < 1'000'000);
  double sum = 0;
  for (index_t i = 0; i < 20000; ++i) sum += static_cast<double>(b(i, 0));  // 80 MB
  auto const read = resident();
  CHECK(read - before > 20'000'000);
  file.forget(file["b"]);
  CHECK(resident() - before < 5'000'000);
  CHECK(sum == 0);
}
