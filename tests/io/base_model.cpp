#include <loraga/io/base_model.hpp>

#include "../support/catch.hpp"
#include "../support/small_decoder.hpp"

using namespace loraga;

TEST_CASE("one model in both forms: the same names, shapes and numbers in the same order") {
  test::small_decoder files;
  base_model const a(files.safetensors()), b(files.gguf());
  CHECK(a.in_safetensors());
  CHECK(!a.in_gguf());
  CHECK(b.in_gguf());
  REQUIRE(a.names() == b.names());
  for (auto const& name : a.names()) {
    INFO(name);
    CHECK(b.contains(name));
    auto const x = a[name], y = b[name];
    CHECK(x.shape() == y.shape());
    CHECK(x.values() == y.values());
    CHECK(x.type_name() == "F32");
    CHECK(x.facts().type == y.facts().type);
    if (x.shape().size() < 2) continue;
    std::vector<float> left(static_cast<std::size_t>(2 * x.cols())), right(left.size());
    x.read(3, row_major(left.data(), 2, x.cols()));
    y.read(3, col_major(right.data(), x.cols(), 2).transposed());
    CHECK(left == right);
    CHECK_THROWS_AS(x.read(x.rows() - 1, row_major(left.data(), 2, x.cols())), value_error);
    CHECK_THROWS_AS(y.read(x.rows() - 1, row_major(right.data(), 2, x.cols())), value_error);
    b.forget(name);
    CHECK(y.values() == x.values());
  }
  for (auto const* base : {&a, &b}) {
    CHECK(!base->contains("model.layers.7.mlp.up_proj.weight"));
    CHECK_THROWS_AS((*base)["model.layers.7.mlp.up_proj.weight"], format_error);
  }
}

TEST_CASE("a GGUF file is known by its first letters, whatever it is called") {
  test::small_decoder files;
  auto const other = files.folder / "sha256-0123";
  std::filesystem::copy(files.gguf(), other);
  CHECK(is_gguf(other));
  CHECK(base_model(other).in_gguf());
  CHECK(!is_gguf(files.safetensors()));
  CHECK(!is_gguf(files.safetensors() / "model.safetensors"));
  test::write_file(files.folder / "x.gguf", "GG");
  CHECK_THROWS_AS(base_model(files.folder / "x.gguf"), format_error);
}

TEST_CASE("a GGUF base that cannot be read right is refused by name") {
  test::folder folder;
  auto const says = [&](auto change) {
    auto b = test::small_decoder::metadata();
    b.tensors = {{"blk.0.attn_q.bias", {32}, 0, 0}};
    b.data = std::string(128, '\0');
    change(b);
    test::write_file(folder / "x.gguf", b.bytes());
    return test::message_of([&] { base_model(folder / "x.gguf")["model.layers.0.self_attn.q_proj.bias"]; });
  };
  CHECK(says([](auto&) {}).find("GGUF's order of rows") != std::string::npos);
  CHECK(says([](auto& b) {
          b.entries = {};
          b.entry_count = 0;
          b.entry("general.architecture", "t5");
        }).find("take the model in safetensors") != std::string::npos);
}
