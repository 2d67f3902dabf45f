#include <loraga/io/dtype.hpp>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("dtypes have names, sizes and C++ types", "[io]") {
  for (std::size_t i = 0; i < format::dtypes.size(); ++i)
    CHECK(parse_dtype(dtype_name(static_cast<dtype>(i)), "test") == static_cast<dtype>(i));
  CHECK(dtype_bits(dtype::F4) == 4);
  CHECK(dtype_bits(dtype::F6_E3M2) == 6);
  CHECK(dtype_bits(dtype::U64) == 64);
  CHECK(dtype_name(dtype_of<bf16>) == "BF16");
  CHECK(dtype_name(dtype_of<fp16>) == "F16");
  CHECK(dtype_name(dtype_of<index_t>) == "I64");
  CHECK(dtype_name(dtype_of<std::uint8_t>) == "U8");
  CHECK(dtype_name(dtype_of<bool>) == "BOOL");
  CHECK_THROWS_AS(parse_dtype("F33", "test"), format_error);
  CHECK_THROWS_AS(parse_dtype("", "test"), format_error);
  CHECK(with_float_type(dtype::BF16, "test", "dtype", []<class T>(T) { return sizeof(T); }) == 2);
  CHECK_THROWS_AS(with_float_type(dtype::I32, "test", "dtype", []<class T>(T) { return sizeof(T); }), format_error);
}

TEST_CASE("element counts do not overflow", "[io]") {
  std::vector<index_t> const none{}, zero{index_t{1} << 40, 0, index_t{1} << 40},
      huge{index_t{1} << 40, index_t{1} << 40};
  CHECK(element_count(none, "test") == 1);
  CHECK(element_count(zero, "test") == 0);
  CHECK_THROWS_AS(element_count(huge, "test"), value_error);
  CHECK(element_count(std::vector{index_t{1} << 30, index_t{1} << 29}, "test") == index_t{1} << 59);
  CHECK_THROWS_AS(element_count(std::vector{(index_t{1} << 59) + 1}, "test"), value_error);
  CHECK_THROWS_AS(element_count(std::vector{index_t{1} << 32, index_t{1} << 32}, "test"), value_error);  // 2^64 is 0
  CHECK_THROWS_AS(element_count(std::vector<index_t>{-1}, "test"), value_error);
}
