// The example's text encoder: against transformers and torch, whose figures tests/interop/minilm.py made.
#include <loraga/io/safetensors_writer.hpp>

#include "../../examples/data/text_set.hpp"
#include "../../examples/model/bert_checkpoint.hpp"
#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "../support/data_folder.hpp"
#include "../support/folder.hpp"

using namespace loraga;
using test::backend;
using test::host;

namespace {

std::string const reference = test::data_folder() + "/interop/reference/minilm/";

nlohmann::json tiny_config() { return parse_json(read_text(reference + "tiny-config.json"), "tiny", 8); }

/// The small random model torch ran, with its batch.
struct tiny_model {
  backend be = test::make_backend(1);
  safetensors_file file{reference + "tiny.safetensors"};
  model::text_encoder<backend> m;
  data::text_set set;
  data::text_buffer<backend> buffer;

  static model::text_encoder_shape shape() {
    test::folder folder;
    test::write_file(folder / "config.json", tiny_config().dump());
    auto s = model::read_bert_shape(folder.path);
    s.classes = 3;
    return s;
  }
  tiny_model() : m(be, shape()) {
    auto const config = tiny_config();
    for (std::size_t i = 0; i < 3; ++i) set.add(config["batch"][i], config["labels"][i].get<index_t>());
    for (auto* t : m.tensors()) {
      t->train(be, true);
      test::upload_to<float>(be, test::transpose(stored(model::checkpoint_name(t->name))), t->value.view());
    }
  }
  auto batch() { return buffer.pick(be, set, {0, 1, 2}); }
  host stored(std::string const& name) const {
    auto const t = file[name];
    host h(t.shape.size() == 1 ? 1 : t.rows(), t.shape.size() == 1 ? t.rows() : t.cols());
    std::vector<float> values(h.data.size());
    read_matrix(t, row_major(values.data(), t.rows(), t.cols()));
    for (index_t i = 0; i < h.rows; ++i)
      for (index_t j = 0; j < h.cols; ++j) h(i, j) = values[static_cast<std::size_t>(i * h.cols + j)];
    return h;
  }
};

}  // namespace

TEST_CASE("the text encoder and its backward are torch's, tensor by tensor", "[examples]") {
  tiny_model t;
  CHECK(test::distance(test::download(t.be, t.m.pool(t.be, t.batch())), test::transpose(t.stored("pooled"))) < 1e-5);
  auto const r = t.m.run(t.be, t.batch(), true);
  CHECK(r.mean() == Approx(tiny_config()["loss"].get<double>()).epsilon(1e-5));
  for (auto* p : t.m.tensors()) {
    INFO(p->name);
    auto const expected = test::transpose(t.stored("gradient." + model::checkpoint_name(p->name)));
    // keys' biases move every score of a query alike: their gradient is zero but for rounding
    CHECK(test::distance(test::download(t.be, p->gradient.view()), expected) < 2e-5 * (1 + test::largest(expected)));
  }
}

TEST_CASE("a sequence's result does not depend on what is beside it", "[examples]") {
  tiny_model t;
  auto const together = test::download(t.be, t.m.pool(t.be, t.batch()));
  for (index_t i = 0; i < 3; ++i) {
    auto const alone = test::download(t.be, t.m.pool(t.be, t.buffer.pick(t.be, t.set, {i})));
    CHECK(test::distance(alone, test::columns(together, i, 1)) < 1e-6);
  }
}

TEST_CASE("an encoder's numbers are the same for any number of threads", "[examples]") {
  data::text_set set;
  for (index_t n = 0; n < 8; ++n) {  // long enough that attention and normalisation are cut
    std::vector<index_t> tokens;
    for (index_t i = 0; i < 40 - n; ++i) tokens.push_back((7 * n + 3 * i) % 50);
    set.add(tokens, n % 2);
  }
  auto const gradients = [&](int threads) {
    auto be = test::make_backend(threads);
    model::text_encoder<backend> m(
        be, {.vocabulary = 50, .positions = 64, .width = 80, .layers = 2, .heads = 2, .hidden = 96});
    std::uint64_t stream = 0;
    for (auto* t : m.tensors()) {
      fill_normal(be, t->value.view(), {5, stream++}, 0.2);
      t->train(be, true);
    }
    data::text_buffer<backend> buffer;
    m.run(be, buffer.pick(be, set, {0, 1, 2, 3, 4, 5, 6, 7}), true);
    std::vector<std::vector<double>> all;
    for (auto* t : m.tensors()) all.push_back(test::download(be, t->gradient.view()).data);
    return all;
  };
  auto const one = gradients(1);
  CHECK(one == gradients(3));
  for (auto const& g : one) CHECK(std::all_of(g.begin(), g.end(), [](double x) { return std::isfinite(x); }));
}

TEST_CASE("weighted sums are the sums, whatever their size and spacing", "[examples]") {
  auto const weights = test::random(90, 1, 1), columns = test::random(70, 40, 2);
  std::vector<float> const w(weights.data.begin(), weights.data.end()), v(columns.data.begin(), columns.data.end());
  for (index_t const size : {1, 15, 16, 17, 32, 33, 47, 48, 64})
    for (index_t const n : {0, 1, 13})
      for (index_t const step : {1, 6}) {
        std::vector<float> out(70, 9.f);
        model::functor::weighted_sum(size, n, {w.data(), step}, {v.data() + 2, 3 * 70}, out.data());
        for (index_t i = 0; i < 70; ++i) {
          double expected = i < size ? 0 : 9;
          for (index_t j = 0; i < size && j < n; ++j) expected += weights(j * step, 0) * columns(i + 2, 3 * j);
          INFO("size " << size << ", " << n << " columns, step " << step << ", row " << i);
          CHECK(out[static_cast<std::size_t>(i)] == Approx(expected).margin(1e-5));
        }
      }
}

TEST_CASE("a linear layer and a normalisation add their gradient to what is there, or replace it", "[examples]") {
  auto be = test::make_backend(2);
  model::linear<backend> layer(be, "layer", 12, 20);
  model::layer_norm<backend> norm(be, "norm", 20);
  layer.randomise(be, {1, 1});
  fill(be, layer.bias.value.view(), 0);
  auto x = test::upload<float>(be, test::random(20, 9, 2)), dy = test::upload<float>(be, test::random(12, 9, 3));
  auto wide = test::upload<float>(be, test::random(20, 9, 7));
  auto const before = test::random(20, 9, 4);
  matrix<float, backend> y(be, 12, 9), n(be, 20, 9);
  auto const run = [&](auto const& backward, host const& start, bool accumulate) {
    auto dx = test::upload<float>(be, start);
    backward(dx.view(), accumulate);
    return test::download(be, dx.view());
  };
  auto const both = [&](auto const& backward) {
    auto const alone = run(backward, before, false);
    CHECK(test::largest(alone) > 0.1);
    CHECK(test::distance(run(backward, 5.0 * before, false), alone) == 0);
    CHECK(test::distance(run(backward, before, true), before + alone) < 1e-5);
  };
  auto const through_layer = [&](auto dx, bool accumulate) {
    layer.forward(be, x.view(), y.view());
    layer.backward(be, x.view(), dy.view(), dx, accumulate);
  };
  both(through_layer);
  auto& ad = layer.adapter.emplace<lora<float, backend>>(be, index_t{12}, index_t{20}, index_t{3},
                                                         classic_scaling{.alpha = 6});
  ad.start(be, test::upload<float>(be, test::random(3, 20, 5)).view(),
           test::upload<float>(be, test::random(12, 3, 6)).view());
  both(through_layer);
  both([&](auto dx, bool accumulate) {
    norm.forward(be, x.view(), n.view());
    norm.backward(be, wide.view(), dx, accumulate);
  });
}

TEST_CASE("frozen parts of the text encoder collect no gradient and change no other's", "[examples]") {
  tiny_model all, some;
  for (auto* p : some.m.tensors()) p->trainable = p->name == "head.weight";
  some.m.linears()[3]->weight.trainable = true;
  all.m.run(all.be, all.batch(), true);
  some.m.run(some.be, some.batch(), true);
  auto const a = all.m.tensors(), s = some.m.tensors();
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO(a[i]->name);
    auto const found = test::download(some.be, s[i]->gradient.view());
    if (s[i]->trainable) CHECK(found.data == test::download(all.be, a[i]->gradient.view()).data);
    else CHECK(test::largest(found) == 0);
  }
}

TEST_CASE("a checkpoint that is not this encoder is refused by the tensor's name", "[examples]") {
  tiny_model t;
  test::folder folder;
  auto const path = folder / "model.safetensors";
  struct change {
    std::string without = {}, misshapen = {}, extra = {};
    bool not_finite = false;
  };
  auto const refusal = [&](change const& c) {
    std::vector<tensor_spec> specs;
    for (auto const& info : t.file.tensors()) {
      if (info.name.starts_with("gradient.") || info.name.starts_with("head.") || info.name == "pooled") continue;
      if (info.name == c.without) continue;
      auto shape = info.shape;
      if (info.name == c.misshapen) std::swap(shape[0], shape[1]);
      specs.push_back({info.name, info.type, shape});
    }
    if (!c.extra.empty()) specs.push_back({c.extra, dtype::F32, {1}});
    safetensors_writer out(path, specs, {}, overwrite::yes);
    for (auto const& s : specs) {
      std::vector<float> values(1, 0.f);
      if (s.name != c.extra) {
        auto const bytes = t.file[s.name].bytes;
        values.resize(bytes.size() / sizeof(float));
        std::memcpy(values.data(), bytes.data(), bytes.size());
      }
      if (c.not_finite) values[0] = INFINITY;
      out.write(s.name, std::as_bytes(std::span(values)));
    }
    out.commit();
    return test::message_of([&] { model::read_bert(folder.path, t.m); });
  };
  CHECK(refusal({}).empty());
  std::string const query = "encoder.layer.1.attention.self.query.weight",
                    expand = "encoder.layer.0.intermediate.dense.weight";
  CHECK_THAT(refusal({.without = query}), Catch::Contains(query) && Catch::Contains("missing"));
  CHECK_THAT(refusal({.misshapen = expand}), Catch::Contains(expand) && Catch::Contains("shape"));
  CHECK_THAT(refusal({.extra = "encoder.layer.2.output.dense.bias"}),
             Catch::Contains("encoder.layer.2.output.dense.bias") && Catch::Contains("unknown"));
  CHECK_THAT(refusal({.not_finite = true}), Catch::Contains("not finite"));
  refusal({});
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 4);
  CHECK_THROWS_AS(model::read_bert(folder.path, t.m), format_error);

  auto config = tiny_config();
  config["hidden_act"] = "relu";
  test::write_file(folder / "config.json", config.dump());
  CHECK_THAT(test::message_of([&] { model::read_bert_shape(folder.path); }), Catch::Contains("hidden_act"));
}

TEST_CASE("all-MiniLM-L6-v2's embeddings are the original's to 1e-4", "[examples]") {
  std::filesystem::path const folder = test::data_folder() + "/../build/minilm";
  if (!std::filesystem::exists(folder / "model.safetensors")) {
    WARN("SKIPPED: " << folder.string() << " is missing (bash examples/run.sh sentiment --build-only fetches it)");
    return;
  }
  auto be = test::make_backend(1);
  model::text_encoder<backend> m(be, model::read_bert_shape(folder));
  model::load(be, m, model::read_bert(folder, m));
  data::text_set set;
  auto const sentences = parse_json(read_text(reference + "sentences.json"), "sentences", 8);
  std::vector<index_t> items;
  for (auto const& s : sentences) {
    items.push_back(set.count());
    set.add(s["ids"], 0);
  }
  data::text_buffer<backend> buffer;
  auto const found = test::download(be, m.embed(be, buffer.pick(be, set, items)));
  double largest = 0;
  for (index_t n = 0; n < set.count(); ++n)
    for (index_t i = 0; i < 24; ++i)
      largest = std::max(
          largest,
          std::abs(found(16 * i, n) -
                   sentences[static_cast<std::size_t>(n)]["embedding"][static_cast<std::size_t>(i)].get<double>()));
  INFO("largest difference " << largest);
  CHECK(largest < 1e-4);
  CHECK(largest > 0);
}
