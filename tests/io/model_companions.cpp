#include <loraga/io/model_companions.hpp>

#include "../support/catch.hpp"
#include "models.hpp"

using namespace loraga;

namespace {
namespace fs = std::filesystem;

std::vector<std::string> files_in(fs::path const& folder) {
  std::vector<std::string> names;
  for (auto const& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) names.push_back(entry.path().lexically_relative(folder).string());
  std::sort(names.begin(), names.end());
  return names;
}
void touch(fs::path const& path, std::string const& text = "x") {
  fs::create_directories(path.parent_path());
  test::write_file(path, text);
}
}  // namespace

TEST_CASE("all that a model needs beside its weights is copied, other weights are told", "[io]") {
  test::folder const folder;
  test::write_model_folder(folder / "base", {{"a.weight", test::host(1, 1)}}, R"({"model_type":"x"})");
  auto const base_path = folder / "base";
  for (auto const* name :
       {"tokenizer.json", "1_Pooling/config.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin",
        "text_encoder/deeper/weights.index.json", ".cache/lock", ".gitattributes", "pytorch_model.bin",
        "other.safetensors", "onnx/model.onnx", "original/consolidated.pth", "model.gguf", "code.py",
        "my-adapter/adapter_config.json", "checkpoint-100/optimizer.pt", "run/log.txt"})
    touch(base_path / name);
  fs::create_directories(base_path / "empty");
  fs::create_directories(base_path / "merged-before");
  fs::copy_file(base_path / "model.safetensors", base_path / "merged-before" / "model.safetensors");
  safetensors_model const base(base_path);
  auto const to = base_path / "merged";  // within the base: it is not copied into itself
  fs::create_directories(to);
  auto const left = copy_companions(base, to, overwrite::no, {}, {base_path / "run"});
  CHECK(files_in(to) == std::vector<std::string>{"1_Pooling/config.json", "2_Dense/model.safetensors",
                                                 "2_Dense/pytorch_model.bin", "code.py", "config.json",
                                                 "text_encoder/deeper/weights.index.json", "tokenizer.json"});
  CHECK(left == std::vector<std::string>{"checkpoint-100/", "merged-before/", "model.gguf", "my-adapter/", "onnx/",
                                         "original/", "other.safetensors", "pytorch_model.bin"});
  // what is there stays, unless it may be replaced
  test::write_file(to / "code.py", "mine");
  copy_companions(base, to, overwrite::no);
  CHECK(test::read_file(to / "code.py") == "mine");
  copy_companions(base, to, overwrite::yes);
  CHECK(test::read_file(to / "code.py") == "x");
  // one file has no companions
  CHECK(copy_companions(safetensors_model(base_path / "model.safetensors"), folder / "nowhere", overwrite::no).empty());
  CHECK(!fs::exists(folder / "nowhere"));
}

TEST_CASE("config.json is edited where weights changed, in the order it has", "[io]") {
  test::folder const folder;
  test::write_model_folder(
      folder / "base", {{"a.weight", test::host(1, 1)}},
      R"({"z":1,"vocab_size":10,"a":2,"text_config":{"vocab_size":10,"tie_word_embeddings":true},"vision":{"vocab_size":3}})");
  fs::create_directories(folder / "to");
  copy_companions(safetensors_model(folder / "base"), folder / "to", overwrite::no, {true, 10, 12});
  auto const text = test::read_file(folder / "to" / "config.json");
  auto const json = nlohmann::ordered_json::parse(text);
  CHECK(json["vocab_size"] == 12);
  CHECK(json["text_config"]["vocab_size"] == 12);
  CHECK(json["vision"]["vocab_size"] == 3);
  CHECK(json["tie_word_embeddings"] == false);
  CHECK(json["text_config"]["tie_word_embeddings"] == false);
  CHECK(json.begin().key() == "z");
  copy_companions(safetensors_model(folder / "base"), folder / "to", overwrite::yes);
  CHECK(test::read_file(folder / "to" / "config.json") == test::read_file(folder / "base" / "config.json"));
}
