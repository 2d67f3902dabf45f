#include <loraga/io/model.hpp>
#include <loraga/io/safetensors_writer.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

namespace {
void write_part(std::filesystem::path const& path, std::vector<std::string> const& names) {
  std::vector<tensor_spec> specs;
  for (auto const& n : names) specs.push_back({n, dtype::F32, {1}});
  safetensors_writer w(path, specs);
  float x = 0;
  for (auto const& n : names) {
    x = static_cast<float>(n.size());
    w.write(n, row_major(&x, 1, 1));
  }
  w.commit();
}
}  // namespace

TEST_CASE("a model is a file, an index, or a folder with either", "[io]") {
  test::folder const folder;
  write_part(folder / "model-1.safetensors", {"a", "bb"});
  write_part(folder / "model-2.safetensors", {"ccc"});
  auto const index = folder / "model.safetensors.index.json";
  test::write_file(
      index,
      R"({"metadata":{"total_size":12},"weight_map":{"a":"model-1.safetensors","bb":"model-1.safetensors","ccc":"model-2.safetensors"}})");
  for (auto const& path : {index, folder.path}) {
    safetensors_model const m(path);
    CHECK(m.names() == std::vector<std::string>{"a", "bb", "ccc"});
    CHECK(m["ccc"].view<float>()(0, 0) == 3);
    CHECK(m.files().size() == 2);
    CHECK(m.contains("bb"));
    CHECK_THROWS_AS(m["d"], format_error);
  }
  CHECK(safetensors_model(folder / "model-1.safetensors").names().size() == 2);
  write_part(folder / "model.safetensors", {"whole"});
  CHECK(safetensors_model(folder.path).contains("whole"));  // as others do, before an index
}

TEST_CASE("an index must fit its files", "[io]") {
  test::folder const folder;
  write_part(folder / "1.safetensors", {"a", "b"});
  auto const index = folder / "model.safetensors.index.json";
  auto const refused = [&](std::string const& json, std::string const& why) {
    test::write_file(index, json);
    CHECK_THAT(test::message_of([&] { safetensors_model m(index); }), Catch::Contains(why));
  };
  refused("{}", "weight_map is missing");
  refused(R"({"weight_map":[]})", "weight_map");
  refused(R"({"weight_map":{"a":1}})", "'a'");
  refused(R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"1.safetensors"}})",
          "'c' is not in 1.safetensors");
  refused(R"({"weight_map":{"a":"../1.safetensors"}})", "a file beside the index");
  refused(R"({"weight_map":{"a":"2.safetensors"}})", "No such file");
  CHECK_THROWS_AS(safetensors_model(folder / "nothing"), file_error);
  CHECK_THAT(test::message_of([&] { safetensors_model m(folder / "nothing"); }), Catch::StartsWith("safetensors_model: "));
  std::filesystem::create_directory(folder / "empty");
  CHECK_THROWS_AS(safetensors_model(folder / "empty"), file_error);
}

TEST_CASE("the index decides which tensors count", "[io]") {
  test::folder const folder;
  write_part(folder / "1.safetensors", {"a", "b", "stale"});
  write_part(folder / "2.safetensors", {"b", "c"});
  auto const index = folder / "unet.safetensors.index.json";
  test::write_file(index, R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"}})");
  for (auto const& path : {index, folder.path}) {
    safetensors_model const m(path);
    CHECK(m.names() == std::vector<std::string>{"a", "b", "c"});
    CHECK(m.size() == 3);
    CHECK(m.left_aside() == std::vector<std::string>{"b", "stale"});
    CHECK(m.names_in(0) == std::vector<std::string>{"a"});
    CHECK(m.owner("b").path().filename() == "2.safetensors");
    CHECK(m.file_name() == "unet.safetensors.index.json");
    CHECK(m.folder() == folder.path);
    CHECK((m.indexed() && !m.is_single_file()));
  }
}

TEST_CASE("a folder's only weights are the model's, whatever they are called", "[io]") {
  test::folder const folder;
  write_part(folder / "diffusion_pytorch_model.safetensors", {"a"});
  safetensors_model const m(folder.path);
  CHECK(m.contains("a"));
  CHECK(m.file_name() == "diffusion_pytorch_model.safetensors");
  CHECK(!m.is_single_file());  // its changed copy is a folder
  CHECK(safetensors_model(folder / "diffusion_pytorch_model.safetensors").is_single_file());
  write_part(folder / "diffusion_pytorch_model.fp16.safetensors", {"a"});
  CHECK_THAT(test::message_of([&] { safetensors_model again(folder.path); }), Catch::Contains("name the one you mean"));
}
