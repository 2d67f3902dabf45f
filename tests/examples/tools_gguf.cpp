#include "../../examples/tools/adapter_jobs.hpp"
#include "../../examples/tools/init_job.hpp"
#include "../support/catch.hpp"
#include "../support/small_decoder.hpp"

using namespace loraga;

namespace {

tools::init_options options_for(std::filesystem::path const& base, std::filesystem::path const& out,
                                tools::start_method method) {
  tools::init_options o;
  o.base = base;
  o.out = out;
  o.method = method;
  o.targets.names = {"q_proj", "k_proj", "down_proj"};
  o.rank = 2;
  o.base_name = "small";
  if (method != tools::start_method::lora) o.relative_to = peft_base::original;
  return o;
}

}  // namespace

TEST_CASE("loraga_init starts a GGUF base as it starts the same model in safetensors", "[examples]") {
  test::small_decoder files;
  cpu be(1);
  for (auto const method : {tools::start_method::pissa, tools::start_method::milora, tools::start_method::lora}) {
    auto const a = files.folder / "a", b = files.folder / "b";
    tools::init_job(be, options_for(files.safetensors(), a, method)).run();
    auto const layers = tools::init_job(be, options_for(files.gguf(), b, method)).run();
    CHECK(layers.size() == 6);
    CHECK(layers[0].module == "model.layers.0.mlp.down_proj");
    for (auto const* name : {"adapter_model.safetensors", "layers.csv"})
      CHECK(test::read_file(a / name) == test::read_file(b / name));
    std::filesystem::remove_all(a);
    std::filesystem::remove_all(b);
  }
}

TEST_CASE("a GGUF base is not written, and the tools say what to do instead", "[examples]") {
  test::small_decoder files;
  cpu be(1);
  auto o = options_for(files.gguf(), files.folder / "out", tools::start_method::pissa);
  o.relative_to = peft_base::anchored;
  o.anchored_base = files.folder / "changed";
  CHECK(test::message_of([&] { tools::init_job(be, o); }).find("which is not written") != std::string::npos);
  tools::adapter_options merge;
  merge.base = files.gguf();
  CHECK(test::message_of([&] { tools::merge(merge, 1); }).find("serve the adapter beside it") != std::string::npos);
  CHECK(!std::filesystem::exists(files.folder / "changed"));
  CHECK(!std::filesystem::exists(files.folder / "out"));
}

TEST_CASE("loraga_adapter gguf takes heads and architecture from the base, and looks whether the layers fit",
          "[examples]") {
  test::small_decoder files;
  cpu be(1);
  tools::init_job(be, options_for(files.gguf(), files.folder / "adapter", tools::start_method::pissa)).run();
  tools::adapter_options o;
  o.sources = {(files.folder / "adapter").string()};
  o.out = files.folder / "adapter.gguf";
  CHECK(test::message_of([&] { tools::to_gguf(o); }).find("--architecture is missing") != std::string::npos);
  o.base = files.gguf();
  tools::to_gguf(o);
  auto const from_base = test::read_file(o.out);
  o.base.clear();
  o.gguf = {.architecture = "llama", .heads = 4, .kv_heads = 2};
  o.may_replace = overwrite::yes;
  tools::to_gguf(o);
  CHECK(test::read_file(o.out) == from_base);
  o.base = files.gguf();
  o.gguf.architecture = "qwen2";
  CHECK(test::message_of([&] { tools::to_gguf(o); }).find("says llama") != std::string::npos);
  o.gguf = {};
  o.renames = {{"model.layers.1", "model.layers.7"}};
  CHECK(test::message_of([&] { tools::to_gguf(o); }).find("has no blk.7.") != std::string::npos);
  o.base = files.safetensors();
  CHECK(test::message_of([&] { tools::to_gguf(o); }).find("is no GGUF file") != std::string::npos);
}
