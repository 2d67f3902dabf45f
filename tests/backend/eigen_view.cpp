#include <Eigen/Core>
#include <loraga/backend/eigen_view.hpp>

#include "../support/catch.hpp"

TEST_CASE("Eigen's matrices, maps and blocks are seen without a copy", "[backend]") {
  Eigen::MatrixXf columns(3, 4);
  columns.setRandom();
  auto const v = loraga::view(columns);
  CHECK(v.data == columns.data());
  CHECK(v(2, 1) == columns(2, 1));
  v(0, 3) = 7;
  CHECK(columns(0, 3) == 7);

  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const rows =
      Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>::Random(3, 4);
  auto const w = loraga::view(rows);
  STATIC_REQUIRE(std::is_same_v<decltype(w), loraga::const_view<double, loraga::host_space> const>);
  CHECK(w(2, 1) == rows(2, 1));
  CHECK(w.col_stride == 1);

  float buffer[24] = {};
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> map(buffer, 3, 4, Eigen::OuterStride<>(6));
  map(1, 2) = 5;
  CHECK(loraga::view(map)(1, 2) == 5);
  CHECK(loraga::view(map).col_stride == 6);
  auto block = columns.block(1, 1, 2, 2);
  CHECK(loraga::view(block)(0, 0) == columns(1, 1));
}
