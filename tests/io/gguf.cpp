#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <loraga/io/gguf.hpp>
#include <map>

#include "../support/catch.hpp"

using namespace loraga;

namespace {

struct folder {
  std::filesystem::path path;
  folder() {
    std::string name = (std::filesystem::temp_directory_path() / "loraga-gguf-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~folder() { std::filesystem::remove_all(path); }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path), {}));
  }
};

std::string bytes_of(std::filesystem::path const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct tensor {
  std::string name;
  std::vector<std::uint64_t> ne;
  std::uint32_t type;
  std::uint64_t offset;
  std::vector<float> values;
};

/// GGUF version 3 read as its specification says, nothing shared with the writer.
struct adapter_file {
  std::string bytes;
  std::size_t at = 0;
  std::uint32_t version = 0;
  std::vector<std::string> keys;
  std::map<std::string, std::string> texts;
  std::map<std::string, float> floats;
  std::vector<tensor> tensors;

  template <class T>
  T take() {
    REQUIRE(at + sizeof(T) <= bytes.size());
    T x;
    std::memcpy(&x, bytes.data() + at, sizeof(T));
    at += sizeof(T);
    return x;
  }
  std::string text() {
    auto const n = take<std::uint64_t>();
    REQUIRE(at + n <= bytes.size());
    at += n;
    return bytes.substr(at - n, n);
  }
  explicit adapter_file(std::filesystem::path const& path) : bytes(bytes_of(path)) {
    REQUIRE(bytes.substr(0, 4) == "GGUF");
    at = 4;
    version = take<std::uint32_t>();
    tensors.resize(take<std::uint64_t>());
    auto const entries = take<std::uint64_t>();
    for (std::uint64_t i = 0; i < entries; ++i) {
      keys.push_back(text());
      auto const type = take<std::uint32_t>();
      REQUIRE((type == 6 || type == 8));
      if (type == 8) texts[keys.back()] = text();
      else floats[keys.back()] = take<float>();
    }
    for (auto& t : tensors) {
      t.name = text();
      t.ne.resize(take<std::uint32_t>());
      for (auto& n : t.ne) n = take<std::uint64_t>();
      t.type = take<std::uint32_t>();
      t.offset = take<std::uint64_t>();
    }
    std::size_t const data = (at + 31) / 32 * 32;
    std::uint64_t next = 0;  // llama.cpp refuses gaps other than the padding
    for (auto& t : tensors) {
      CHECK(t.offset == next);
      std::uint64_t n = 1;
      for (auto const d : t.ne) n *= d;
      at = data + t.offset;
      for (std::uint64_t i = 0; i < n; ++i) {
        if (t.type == 0) t.values.push_back(take<float>());
        if (t.type == 1) t.values.push_back(static_cast<float>(take<fp16>()));
        if (t.type == 30) t.values.push_back(static_cast<float>(take<bf16>()));
      }
      next = (at - data + 31) / 32 * 32;
    }
    CHECK(bytes.size() == data + next);
  }
  tensor const& operator[](std::string const& name) const {
    for (auto const& t : tensors)
      if (t.name == name) return t;
    FAIL("no tensor " << name);
    throw 0;
  }
};

/// A record whose numbers tell their places.
adapter_record record(std::string module, index_t out, index_t in, index_t rank, double scale) {
  adapter_record r{std::move(module), scale, {rank, in}, {out, rank}, {}, {}, dtype::F32};
  for (index_t i = 0; i < rank; ++i)
    for (index_t j = 0; j < in; ++j) r.a.view()(i, j) = static_cast<float>(100 * i + j);
  for (index_t i = 0; i < out; ++i)
    for (index_t j = 0; j < rank; ++j) r.b.view()(i, j) = static_cast<float>(i) + 0.25f * static_cast<float>(j);
  return r;
}

/// What llama.cpp adds to W at (i, j).
double added(adapter_file const& f, std::string const& weight, std::size_t i, std::size_t j) {
  auto const &a = f[weight + ".lora_a"], &b = f[weight + ".lora_b"];
  std::size_t const in = a.ne[0], rank = b.ne[0];
  double sum = 0;
  for (std::size_t k = 0; k < rank; ++k)
    sum += static_cast<double>(b.values[i * rank + k]) * static_cast<double>(a.values[k * in + j]);
  return sum * static_cast<double>(f.floats.at("adapter.lora.alpha")) / static_cast<double>(rank);
}

template <class E, class F>
std::string message(F&& f) {
  try {
    f();
  } catch (E const& e) {
    return e.what();
  } catch (std::exception const& e) {
    FAIL("another exception: " << e.what());
  }
  FAIL("no exception");
  return {};
}

bool says(std::string const& text, std::string const& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
  return true;
}

}  // namespace

TEST_CASE("a GGUF adapter has llama.cpp's keys, names and shapes", "[io]") {
  folder const tmp;
  std::vector const records{record("model.layers.10.mlp.down_proj", 3, 5, 2, 2),
                            record("model.layers.0.self_attn.v_proj", 4, 3, 2, 2)};
  save_gguf_adapter(tmp.path / "a.gguf", records, {.architecture = "qwen2", .name = "a name"});
  adapter_file const f(tmp.path / "a.gguf");
  CHECK(f.version == 3);
  CHECK(f.keys == std::vector<std::string>{"general.architecture", "general.type", "general.name", "adapter.type",
                                           "adapter.lora.alpha"});
  CHECK(f.texts.at("general.architecture") == "qwen2");
  CHECK(f.texts.at("general.type") == "adapter");
  CHECK(f.texts.at("general.name") == "a name");
  CHECK(f.texts.at("adapter.type") == "lora");
  CHECK(f.floats.at("adapter.lora.alpha") == 4.f);
  REQUIRE(f.tensors.size() == 4);
  CHECK(f.tensors[0].name == "blk.0.attn_v.weight.lora_a");
  CHECK(f.tensors[1].name == "blk.0.attn_v.weight.lora_b");
  CHECK(f.tensors[2].name == "blk.10.ffn_down.weight.lora_a");
  CHECK(f.tensors[3].name == "blk.10.ffn_down.weight.lora_b");
  using sizes = std::vector<std::uint64_t>;
  CHECK(f.tensors[0].ne == sizes{3, 2});
  CHECK(f.tensors[1].ne == sizes{2, 4});
  CHECK(f.tensors[2].ne == sizes{5, 2});
  CHECK(f.tensors[3].ne == sizes{2, 3});
  for (auto const& t : f.tensors) CHECK(t.type == 0);
  CHECK(f.tensors[0].values == records[1].a.values);  // s*r is the same for both: B as it is
  CHECK(f.tensors[1].values == records[1].b.values);
  CHECK(f.tensors[2].values == records[0].a.values);
  CHECK(f.tensors[3].values == records[0].b.values);

  std::vector const turned{records[1], records[0]};
  save_gguf_adapter(tmp.path / "b.gguf", turned, {.architecture = "qwen2", .name = "a name"});
  CHECK(bytes_of(tmp.path / "b.gguf") == f.bytes);
  save_gguf_adapter(tmp.path / "c.gguf", turned, {.architecture = "qwen2"});
  CHECK(adapter_file(tmp.path / "c.gguf").keys.size() == 4);
}

TEST_CASE("every layer counts with its own scale and rank under llama.cpp's one alpha", "[io]") {
  folder const tmp;
  std::vector const records{record("h.0.attn.c_attn", 6, 3, 1, 0.125), record("h.1.mlp.c_fc", 2, 3, 4, -1.5),
                            record("h.2.mlp.c_proj", 2, 2, 3, 0.7)};
  save_gguf_adapter(tmp.path / "a.gguf", records, {.architecture = "gpt2"});
  adapter_file const f(tmp.path / "a.gguf");
  CHECK(f.floats.at("adapter.lora.alpha") == 6.f);  // largest |s|*r
  char const* const names[] = {"blk.0.attn_qkv.weight", "blk.1.ffn_up.weight", "blk.2.ffn_down.weight"};
  for (std::size_t n = 0; n < 3; ++n) {
    auto const& r = records[n];
    CHECK(f[std::string(names[n]) + ".lora_b"].ne[0] == static_cast<std::uint64_t>(r.rank()));  // no padding
    for (index_t i = 0; i < r.b.rows; ++i)
      for (index_t j = 0; j < r.a.cols; ++j) {
        double wanted = 0;
        for (index_t k = 0; k < r.rank(); ++k)
          wanted += r.scale * static_cast<double>(r.b.view()(i, k)) * static_cast<double>(r.a.view()(k, j));
        CHECK(added(f, names[n], static_cast<std::size_t>(i), static_cast<std::size_t>(j)) ==
              Approx(wanted).epsilon(1e-6).margin(1e-9));
      }
  }
  for (double const s : {0., 1e-60}) {  // alpha 0 would count as a scale of 1
    std::vector const nothing{record("h.0.mlp.c_fc", 2, 3, 2, s)};
    save_gguf_adapter(tmp.path / "zero.gguf", nothing, {.architecture = "gpt2", .may_replace = overwrite::yes});
    adapter_file const zero(tmp.path / "zero.gguf");
    CHECK(zero.floats.at("adapter.lora.alpha") == 1.f);
    for (float const x : zero["blk.0.ffn_up.weight.lora_b"].values) CHECK(x == 0.f);
  }
}

TEST_CASE("16-bit GGUF adapters are rounded", "[io]") {
  folder const tmp;
  auto r = record("encoder.layer.3.attention.self.query", 3, 5, 1, 1);
  r.a.values[1] = 1.00048828125f + 1e-5f;
  std::vector const records{r};
  save_gguf_adapter(tmp.path / "f16", records, {.architecture = "bert", .type = dtype::F16});
  save_gguf_adapter(tmp.path / "bf16", records, {.architecture = "bert", .type = dtype::BF16});
  adapter_file const f16(tmp.path / "f16"), b16(tmp.path / "bf16");
  auto const &h = f16["blk.3.attn_q.weight.lora_a"], &b = b16["blk.3.attn_q.weight.lora_a"];
  CHECK(h.type == 1);
  CHECK(b.type == 30);
  CHECK(h.values == std::vector<float>{0, 1.0009765625f, 2, 3, 4});
  CHECK(b.values == std::vector<float>{0, 1, 2, 3, 4});
  CHECK(f16["blk.3.attn_q.weight.lora_b"].values == r.b.values);
}

TEST_CASE("rows of a llama's q and k are paired as llama.cpp pairs them, no others", "[io]") {
  folder const tmp;
  std::vector const records{
      record("model.layers.0.self_attn.q_proj", 12, 2, 1, 1), record("model.layers.0.self_attn.k_proj", 6, 2, 1, 1),
      record("model.layers.0.self_attn.v_proj", 6, 2, 1, 1), record("model.layers.0.self_attn.o_proj", 6, 2, 1, 1)};
  save_gguf_adapter(tmp.path / "a", records, {.architecture = "llama", .heads = 2, .kv_heads = 1});
  adapter_file const f(tmp.path / "a");
  using numbers = std::vector<float>;
  CHECK(f["blk.0.attn_q.weight.lora_b"].values == numbers{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11});
  CHECK(f["blk.0.attn_k.weight.lora_b"].values == numbers{0, 3, 1, 4, 2, 5});
  CHECK(f["blk.0.attn_v.weight.lora_b"].values == numbers{0, 1, 2, 3, 4, 5});
  CHECK(f["blk.0.attn_output.weight.lora_b"].values == numbers{0, 1, 2, 3, 4, 5});
  CHECK(f["blk.0.attn_q.weight.lora_a"].values == records[0].a.values);
  for (char const* const other : {"qwen2", "qwen3"}) {
    save_gguf_adapter(tmp.path / other, records, {.architecture = other, .heads = 2, .kv_heads = 1});
    CHECK(adapter_file(tmp.path / other)["blk.0.attn_q.weight.lora_b"].values == records[0].b.values);
  }
  std::vector const rank2{record("layers.0.self_attn.k_proj", 4, 2, 2, 1)};
  save_gguf_adapter(tmp.path / "b", rank2, {.architecture = "llama", .kv_heads = 1});
  CHECK(adapter_file(tmp.path / "b")["blk.0.attn_k.weight.lora_b"].values ==
        numbers{0, 0.25f, 2, 2.25f, 1, 1.25f, 3, 3.25f});
}

TEST_CASE("a llama's heads must be given and fit", "[io]") {
  folder const tmp;
  auto const q = record("model.layers.0.self_attn.q_proj", 12, 2, 1, 1);
  auto const k = record("model.layers.1.self_attn.k_proj", 6, 2, 1, 1);
  auto const save = [&](std::vector<adapter_record> const& records, index_t heads, index_t kv_heads) {
    return message<value_error>([&] {
      save_gguf_adapter(tmp.path / "a", records, {.architecture = "llama", .heads = heads, .kv_heads = kv_heads});
    });
  };
  says(save({q}, 0, 1), "save_gguf_adapter(model.layers.0.self_attn.q_proj): heads");
  says(save({k}, 2, 0), "save_gguf_adapter(model.layers.1.self_attn.k_proj): heads or kv_heads is 0");
  says(save({q}, -2, 1), "heads");
  says(save({q}, 4, 1), "4 for 12 rows");  // 3 rows per head
  says(save({q}, 5, 1), "5 for 12 rows");
  says(save({q, k}, 2, 3), "3 for 6 rows");  // 6 per head here, 2 there
  CHECK(tmp.files() == 0);
  std::vector const without{record("model.layers.0.mlp.up_proj", 12, 2, 1, 1)};
  save_gguf_adapter(tmp.path / "a", without, {.architecture = "llama"});
}

TEST_CASE("GGUF names of the families", "[io]") {
  CHECK(gguf_tensor_name("llama", "model.layers.31.self_attn.k_proj") == "blk.31.attn_k.weight");
  CHECK(gguf_tensor_name("llama", "layers.31.mlp.gate_proj") == "blk.31.ffn_gate.weight");
  CHECK(gguf_tensor_name("qwen3", "lm_head") == "output.weight");
  CHECK(gguf_tensor_name("gpt2", "transformer.h.11.attn.c_proj") == "blk.11.attn_output.weight");
  CHECK(gguf_tensor_name("gpt2", "h.11.mlp.c_proj") == "blk.11.ffn_down.weight");
  CHECK(gguf_tensor_name("bert", "bert.encoder.layer.2.attention.output.dense") == "blk.2.attn_output.weight");
  CHECK(gguf_tensor_name("bert", "encoder.layer.2.output.dense") == "blk.2.ffn_down.weight");
  CHECK(gguf_tensor_name("t5", "encoder.block.4.layer.0.SelfAttention.o") == "enc.blk.4.attn_o.weight");
  CHECK(gguf_tensor_name("t5", "encoder.block.4.layer.1.DenseReluDense.wi_1") == "enc.blk.4.ffn_up.weight");
  CHECK(gguf_tensor_name("t5", "decoder.block.4.layer.1.EncDecAttention.v") == "dec.blk.4.cross_attn_v.weight");
  CHECK(gguf_tensor_name("t5", "decoder.block.4.layer.2.DenseReluDense.wi_0") == "dec.blk.4.ffn_gate.weight");

  for (char const* const module :
       {"model.embed_tokens", "model.layers.0.self_attn.q_proj.weight", "model.layers.x.self_attn.q_proj",
        "model.layers..self_attn.q_proj", "model.layers.1.2.self_attn.q_proj", "model.layers.self_attn.q_proj",
        "model.layers.0.mlp.experts.3.up_proj", "decoder.layers.0.self_attn.q_proj", ""})
    says(message<value_error>([&] { gguf_tensor_name("llama", module); }), "'" + std::string(module) + "'");
  says(message<value_error>([] { gguf_tensor_name("mamba", "lm_head"); }), "'mamba', expected llama, qwen2");
}

TEST_CASE("what a GGUF adapter cannot hold is refused, and no file appears", "[io]") {
  folder const tmp;
  auto const path = tmp.path / "a.gguf";
  auto const good = record("model.layers.0.mlp.up_proj", 4, 3, 2, 1);
  auto const save = [&](std::vector<adapter_record> const& records, dtype type = dtype::F32) {
    save_gguf_adapter(path, records, {.architecture = "qwen3", .type = type});
  };
  says(message<value_error>([&] { save({}); }), "records");
  says(message<value_error>([&] { save({good, record("lm_heads", 2, 2, 1, 1)}); }), "'lm_heads'");
  auto twice = good;
  twice.module = "layers.0.mlp.up_proj";
  says(message<value_error>([&] { save({good, twice}); }), "twice");
  says(message<value_error>([&] { save({good}, dtype::F64); }), "type is F64");
  auto wrong = good;
  wrong.b = {4, 3};
  says(message<shape_error>([&] { save({wrong}); }), "save_gguf_adapter(model.layers.0.mlp.up_proj)");
  wrong = good;
  wrong.a.values[2] = std::numeric_limits<float>::quiet_NaN();
  says(message<numeric_error>([&] { save({wrong}); }), "save_gguf_adapter(model.layers.0.mlp.up_proj)");
  wrong = good;
  wrong.a.values[2] = 1e5f;
  save({wrong}, dtype::BF16);
  std::filesystem::remove(path);
  says(message<numeric_error>([&] { save({wrong}, dtype::F16); }), "within F16");
  CHECK(tmp.files() == 0);
}

TEST_CASE("an anchored record is widened by the caller or refused", "[io]") {
  folder const tmp;
  auto r = record("model.layers.0.mlp.up_proj", 4, 3, 2, 0.5);
  r.start_a = {1, 3};
  r.start_b = {4, 1};
  r.start_a.values = {1, 2, 3};
  r.start_b.values = {4, 5, 6, 7};
  std::vector records{r};
  gguf_options const options{.architecture = "llama"};
  says(message<state_error>([&] { save_gguf_adapter(tmp.path / "a", records, options); }), "widened");
  CHECK(tmp.files() == 0);
  records[0] = widened(r);
  save_gguf_adapter(tmp.path / "a", records, options);
  adapter_file const f(tmp.path / "a");
  CHECK(f["blk.0.ffn_up.weight.lora_b"].ne[0] == 3);
  CHECK(added(f, "blk.0.ffn_up.weight", 1, 2) == Approx(0.5 * (1 * 2 + 1.25 * 102 - 5 * 3)));
}

TEST_CASE("E is folded into B; a DoRA, convolutions and embeddings are refused by name", "[io]") {
  folder const tmp;
  auto r = record("model.layers.0.mlp.up_proj", 4, 3, 2, 0.5);
  r.e = {2, 1};
  r.e.values = {2, -3};
  gguf_options const options{.architecture = "llama"};
  std::vector records{r};
  save_gguf_adapter(tmp.path / "a", records, options);
  records[0] = without_e(r);
  save_gguf_adapter(tmp.path / "b", records, options);
  CHECK(bytes_of(tmp.path / "a") == bytes_of(tmp.path / "b"));
  auto const refused = [&](auto change) {
    auto bad = record("model.layers.0.mlp.up_proj", 4, 3, 2, 0.5);
    change(bad);
    records[0] = bad;
    return [&] { save_gguf_adapter(tmp.path / "c", records, options); };
  };
  says(message<state_error>(refused([](auto& x) { x.magnitude = {4, 1}; })), "merge_into_model");
  says(message<value_error>(refused([](auto& x) {
         x.layer = {layer_form::convolution, 3, 1};
       })),
       "a convolution of 3x1");
  says(message<value_error>(refused([](auto& x) { x.layer = {layer_form::embedding}; })), "an embedding");
  CHECK(tmp.files() == 2);
}

TEST_CASE("an existing file is replaced on demand only", "[io]") {
  folder const tmp;
  auto const path = tmp.path / "a.gguf";
  std::ofstream(path) << "mine";
  std::vector const records{record("lm_head", 2, 2, 1, 1)};
  auto const code = [&] {
    try {
      save_gguf_adapter(path, records, {.architecture = "llama"});
    } catch (file_error const& e) {
      return e.code;
    }
    return 0;
  };
  CHECK(code() == EEXIST);
  CHECK(bytes_of(path) == "mine");
  save_gguf_adapter(path, records, {.architecture = "llama", .may_replace = overwrite::yes});
  CHECK(adapter_file(path).tensors.size() == 2);
  CHECK(tmp.files() == 1);
}
