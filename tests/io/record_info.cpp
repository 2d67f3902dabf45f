#include <loraga/io/record_info.hpp>

#include <loraga/io/safetensors_writer.hpp>
#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

TEST_CASE("what a record's numbers say without them", "[io]") {
  adapter_record r{"net.q", 2, {3, 5}, {7, 3}, {}, {}};
  r.magnitude = {7, 1};
  auto const info = info_of(r);
  CHECK(info.module == "net.q");
  CHECK(info.out == 7);
  CHECK(info.in == 5);
  CHECK(info.rank == 3);
  CHECK(info.magnitude);
  CHECK(!info.e);
  CHECK(weight_name("net.q", "net.") == "q.weight");
  CHECK_THROWS_AS(weight_name("net.q", "other."), value_error);
}

TEST_CASE("a record is held against the base's shapes", "[io]") {
  test::folder const folder;
  auto const path = folder / "base.safetensors";
  {
    std::vector<tensor_spec> const specs{{"conv.weight", dtype::F32, {4, 2, 3, 3}},
                                         {"linear.weight", dtype::F32, {4, 6}},
                                         {"words.weight", dtype::F32, {9, 4}}};
    safetensors_writer writer(path, specs, {}, overwrite::no);
    for (auto const& s : specs) {
      std::vector<float> const zeros(static_cast<std::size_t>(s.shape[0] * (s.shape.size() == 4 ? 18 : s.shape[1])));
      writer.write(s.name, std::as_bytes(std::span(zeros)));
    }
    writer.commit();
  }
  safetensors_model const base(path);
  auto const fits = [&](std::string module, index_t out, index_t in, layer_kind kind, bool transposed = false) {
    record_info r;
    r.module = std::move(module);
    r.out = out;
    r.in = in;
    r.rank = 1;
    r.layer = kind;
    check_against_base(r, base, {r.module + ".weight", transposed}, "here");
  };
  layer_kind const linear, convolution{layer_form::convolution, 3, 3}, embedding{layer_form::embedding};
  CHECK_NOTHROW(fits("linear", 4, 6, linear));
  CHECK_THROWS_AS(fits("linear", 6, 4, linear), shape_error);
  CHECK_NOTHROW(fits("linear", 6, 4, linear, true));
  CHECK_NOTHROW(fits("conv", 4, 18, convolution));
  CHECK_THROWS_AS(fits("conv", 4, 18, linear), shape_error);
  CHECK_NOTHROW(fits("words", 4, 9, embedding));
  CHECK_THROWS_AS(fits("words", 9, 4, embedding), shape_error);
  CHECK_THROWS_AS(fits("nowhere", 4, 6, linear), value_error);
}
