#include "support.hpp"

using namespace loraga;
using libtorch::flattened;
using libtorch::images;
using libtorch::view;

TEST_CASE("libtorch: a matrix is seen with its own strides") {
  auto const t = torch::arange(12, torch::kFloat).view({3, 4});
  auto const v = view<float>(t);
  CHECK(v(2, 3) == 11);
  auto const w = view<float>(t.t());
  CHECK((w.rows == 4 && w(3, 2) == 11 && w.row_stride == 1));
  auto const every_second = view<float>(t.slice(0, 0, 3, 2));
  CHECK(every_second(1, 0) == 8);
  auto const slice = view<float>(t.slice(1, 1, 3));
  CHECK((slice.cols == 2 && slice(1, 0) == 5));
  CHECK(view<float>(t.slice(0, 1, 2)).rows == 1);
  CHECK(view<float>(t.slice(0, 1, 1)).rows == 0);
  CHECK(view<bf16>(t.to(torch::kBFloat16)).data != nullptr);
  CHECK(view<fp16>(t.to(torch::kHalf))(0, 3).bits == 0x4200);
  CHECK(view<double>(t.to(torch::kDouble))(1, 0) == 4);
}

TEST_CASE("libtorch: what cannot be viewed is refused by name") {
  auto const t = torch::arange(12, torch::kFloat).view({3, 4});
  CHECK_THROWS_WITH(view<double>(t, "f", "X"), "f: X is of Float, expected Double");
  CHECK_THROWS_AS(view<float>(at::Tensor(), "f", "X"), value_error);
  CHECK_THROWS_AS(view<float>(t.to_sparse(), "f", "X"), value_error);
  CHECK_THROWS_WITH(view<float>(t.view({3, 2, 2}), "f", "X"), Catch::Contains("f: X is [3, 2, 2]"));
  CHECK_THROWS_AS(view<float>(torch::ones({1, 4}).expand({3, 4})), shape_error);
  CHECK_THROWS_AS(view<float>(torch::ones({6, 8}).slice(0, 0, 6, 2).slice(1, 0, 8, 2)), shape_error);
  CHECK_THROWS_AS((view<float, device_space>(t, "f", "X")), value_error);
}

TEST_CASE("libtorch: leading dimensions are tokens") {
  auto const t = torch::arange(24, torch::kFloat).view({2, 3, 4});
  auto const v = flattened<float>(t);
  CHECK((v.rows == 4 && v.cols == 6 && v(1, 5) == 21));
  CHECK(flattened<float>(t[0][0]).cols == 1);
  CHECK(flattened<float>(t.slice(2, 1, 3))(1, 5) == 22);  // some of the features
  CHECK(flattened<float>(t.slice(1, 0, 1))(0, 1) == 12);  // one row of each
  CHECK(flattened<float>(t.view({1, 2, 1, 3, 4})).cols == 6);
  CHECK(flattened<float>(torch::empty({0, 3, 4})).cols == 0);
  CHECK(flattened<float>(torch::empty({3, 0, 4})).cols == 0);
  CHECK(flattened<float>(torch::empty({3, 2, 0})).cols == 6);
  CHECK(flattened<float>(torch::ones({5, 1}))(0, 4) == 1);
  auto const column_major = flattened<float>(torch::arange(6, torch::kFloat).view({2, 3}).t());
  CHECK((column_major.rows == 2 && column_major(1, 2) == 5));
  CHECK_THROWS_AS(flattened<float>(t.transpose(0, 1)), shape_error);
  CHECK_THROWS_AS(flattened<float>(torch::ones({}).expand({2, 3})), shape_error);
  CHECK_THROWS_AS(flattened<float>(torch::ones({})), shape_error);
}

TEST_CASE("libtorch: images lie in both memory formats") {
  auto const t = torch::arange(2 * 3 * 4 * 5, torch::kFloat).view({2, 3, 4, 5});
  auto const last = t.contiguous(torch::MemoryFormat::ChannelsLast);
  CHECK(images<float>(t).at(1, 2, 7) == t[1][2][1][2].item<float>());
  CHECK(images<float>(last).at(1, 2, 7) == t[1][2][1][2].item<float>());
  CHECK(images<float>(last).channel_stride == 1);
  CHECK(images<float>(t.slice(1, 1, 3)).at(1, 0, 3) == t[1][1][0][3].item<float>());
  CHECK(images<float>(t[1]).at(0, 2, 7) == t[1][2][1][2].item<float>());
  CHECK_THROWS_AS(images<float>(t.slice(3, 1, 3)), shape_error);
  CHECK_THROWS_AS(images<float>(t.transpose(2, 3)), shape_error);
  CHECK_THROWS_AS(images<float>(torch::ones({1, 3, 4, 5}).expand({2, 3, 4, 5})), shape_error);
}

TEST_CASE("libtorch: an element type that is known at run time only") {
  auto const size_of = [](at::Tensor const& t) {
    return libtorch::with_element(t, "f", "X", [](auto x) { return sizeof(x); });
  };
  CHECK(size_of(torch::ones(1, torch::kDouble)) == 8);
  CHECK(size_of(torch::ones(1, torch::kBFloat16)) == 2);
  CHECK_THROWS_WITH(size_of(torch::ones(1, torch::kLong)), Catch::Contains("f: X is of Long"));
}
