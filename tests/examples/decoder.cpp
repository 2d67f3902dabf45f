// The language example's decoder: its backward against differences, and the same numbers from either file.
#include "../../examples/training/trainer.hpp"
#include "../support/allocation_meter.hpp"
#include "../support/catch.hpp"
#include "../support/small_decoder.hpp"

using namespace loraga;
using test::backend;

namespace {

using network = model::language_model<backend>;

struct fixture {
  test::small_decoder files;
  backend be = test::make_backend(1);
  base_model base;
  data::token_set set = test::counting_items(0, 6);

  explicit fixture(bool gguf = true) : base(gguf ? files.gguf() : files.safetensors()) {}
  network make(index_t most_tokens = 256) { return network(be, {&base, model::read_decoder_shape(base), most_tokens}); }
  network::batch_type items() const {
    network::batch_type all;
    for (index_t i = 0; i < set.count(); ++i) all.push_back(&set[i]);
    return all;
  }
  /// Adapters with random A and B.
  void adapt(network& m) {
    std::uint64_t stream = 0;
    for (auto* l : m.linears()) {
      auto& ad =
          l->adapter.template emplace<lora<float, backend>>(be, l->out(), l->in(), 2, classic_scaling{.alpha = 2});
      matrix<float, backend> a(be, 2, l->in()), b(be, l->out(), 2);
      fill_normal(be, a.view(), {3, stream++}, 0.1);
      fill_normal(be, b.view(), {3, stream++}, 0.1);
      ad.start(be, std::as_const(a).view(), std::as_const(b).view());
    }
  }
};

}  // namespace

TEST_CASE("the decoder reads its sizes from either file, and gives the same numbers", "[examples]") {
  fixture one(true), other(false);
  for (auto* f : {&one, &other}) {
    auto const s = model::read_decoder_shape(f->base);
    CHECK(s.vocabulary == 40);
    CHECK(s.kv_heads == 2);
    CHECK(s.head_size == 8);
    CHECK(s.rope_base == 1000);
    CHECK(s.tied);
  }
  auto a = one.make(), b = other.make();
  auto const r = a.run(one.be, one.items(), false);
  CHECK(r.loss_sum == b.run(other.be, other.items(), false).loss_sum);
  CHECK(r.count == 18);
}

TEST_CASE("an embedding of another size than the vocabulary is refused", "[examples]") {
  fixture f;
  auto shape = model::read_decoder_shape(f.base);
  shape.vocabulary = 41;
  CHECK_THROWS_AS((network(f.be, {&f.base, shape, 256})), format_error);
}

TEST_CASE("adapters' gradients in a decoder are those of differences", "[examples]") {
  fixture f;
  auto m = f.make();
  f.adapt(m);
  for (auto* l : m.linears()) l->adapter.zero_gradient(f.be);
  m.run(f.be, f.items(), true);
  for (auto* l : m.linears())
    for (auto const& p : l->adapter.parameters()) {
      INFO(l->weight.name << " " << p.name);
      auto const value = test::download(f.be, p.value), gradient = test::download(f.be, p.gradient);
      double const size = std::sqrt(test::inner(gradient, gradient));
      REQUIRE(size > 1e-6);
      double const step = 2e-3 * std::sqrt(static_cast<double>(value.data.size()));
      auto const loss_at = [&](double t) {
        auto moved = value;
        for (std::size_t i = 0; i < moved.data.size(); ++i) moved.data[i] += t * gradient.data[i] / size;
        test::upload_to<float>(f.be, moved, p.value);
        return m.run(f.be, f.items(), false).mean();
      };
      double const slope = (loss_at(step) - loss_at(-step)) / (2 * step);
      loss_at(0);
      CHECK(slope == Approx(size).epsilon(0.02).margin(2e-5));
    }
}

TEST_CASE("a batch in pieces, or beside others, is the same batch", "[examples]") {
  fixture f;
  auto whole = f.make(), pieces = f.make(8);
  f.adapt(whole);
  f.adapt(pieces);
  for (auto* m : {&whole, &pieces})
    for (auto* l : m->linears()) l->adapter.zero_gradient(f.be);
  auto const a = whole.run(f.be, f.items(), true), b = pieces.run(f.be, f.items(), true);
  CHECK(a.loss_sum == Approx(b.loss_sum).epsilon(1e-6));
  auto const left = whole.linears(), right = pieces.linears();
  for (std::size_t i = 0; i < left.size(); ++i) {
    INFO(left[i]->weight.name);
    auto const x = test::download(f.be, left[i]->adapter.parameters()[0].gradient);
    CHECK(test::distance(x, test::download(f.be, right[i]->adapter.parameters()[0].gradient)) <
          1e-5 * (1 + test::largest(x)));
  }
}

TEST_CASE("a sequence that grows word by word has the logits of the whole one", "[examples]") {
  fixture f;
  auto m = f.make();
  f.adapt(m);
  std::vector<index_t> const tokens{3, 1, 4, 1, 5, 9, 2, 6};
  data::token_item item{tokens, 1};
  item.tokens.push_back(0);  // nothing follows the last one
  data::token_buffer<backend> buffer;
  matrix<float, backend> all(f.be, 40, 8), one(f.be, 40, 1);
  m.network.logits(f.be, buffer.pick(f.be, {&item}), all.view());
  auto kept = m.network.make_cache(f.be, 8);
  m.network.extend(f.be, buffer.next(f.be, {3, 1, 4}, 0), kept, one.view());
  for (std::size_t t = 3; t <= 8; ++t) {
    CHECK(test::distance(test::download(f.be, one.view()),
                         test::columns(test::download(f.be, all.view()), static_cast<index_t>(t) - 1, 1)) < 1e-5);
    if (t < 8) m.network.extend(f.be, buffer.next(f.be, {tokens[t]}, kept.tokens), kept, one.view());
  }
}

TEST_CASE("starts beside a frozen base: step 0 is the base to the last bit, all learn, and go on after a kill",
          "[examples]") {
  fixture f;
  auto const before = test::read_file(f.files.gguf());
  data::parts<data::token_set> const parts{test::counting_items(0, 40), test::counting_items(40, 8),
                                           test::counting_items(48, 12)};
  model::weights const none;
  training::task<network, data::token_set> const task{
      .shape = {&f.base, model::read_decoder_shape(f.base), 24}, .weights = &none, .data = &parts, .new_head = false};
  auto plain = f.make(24);  // the same pieces
  double const start = training::evaluate(f.be, plain, parts.test, 0, 12).mean();
  for (auto const& how : training::all_methods()) {
    INFO(how.name);
    training::train_spec s{
        .method = how.name, .set = "made", .rank = 2, .rate = 3e-3, .steps = 12, .batch = 8, .evaluate_every = 5};
    s.ratio = how.ratio;
    s.sample = {2, 8};
    auto const run = [&](training::checkpointing const& keep, index_t stop_at) {
      backend own = test::make_backend(1);
      return training::trainer(own, task, s).run(keep, [&](training::progress const& p) {
        if (p.step == stop_at) throw std::runtime_error("interrupted");
      });
    };
    bool const suits = how.kind == training::adapter_kind::lora && !how.full() && !how.own_ranks() &&
                       how.how != training::start::corda;
    if (!suits && how.kind == training::adapter_kind::lora && !how.full()) {
      CHECK_THROWS_AS(run({}, -1), value_error);
      continue;
    }
    if (!suits) continue;  // of another class
    auto const whole = run({}, -1);
    if (how.how != training::start::lora_one) CHECK(whole.losses[0] == start);
    CHECK(*std::min_element(whole.losses.begin(), whole.losses.end()) < whole.losses[0]);
    training::checkpointing const keep{f.files.folder / "state", 4};
    CHECK_THROWS_WITH(run(keep, 10), "interrupted");
    auto const again = run(keep, -1);
    CHECK(again.losses == whole.losses);
    CHECK(again.train_losses == whole.train_losses);
    std::filesystem::remove(keep.path);
  }
  CHECK(test::read_file(f.files.gguf()) == before);
}

TEST_CASE("a streamed sample ends early where asked to, and a second pass refines it", "[examples]") {
  fixture f;
  auto const set = test::counting_items(0, 40);
  auto m = f.make();
  training::train_spec s{.rank = 2, .seed = 1};
  s.sample = {6, 8};
  auto const all = training::stream_gradients(f.be, m, set, s);
  CHECK(m.estimate.batches == 6);
  CHECK(m.estimate.turns.size() == 5);
  CHECK(!m.estimate.settled);
  CHECK(m.estimate.bytes == all.bytes());
  CHECK(all[0].count() > 0);
  auto const turns = m.estimate.turns;
  s.settle = 1.01 * std::max(turns[1], turns[2]);
  auto const some = training::stream_gradients(f.be, m, set, s);
  CHECK(m.estimate.settled);
  CHECK(m.estimate.batches <= 4);
  CHECK(m.estimate.turns.back() < s.settle);
  CHECK(m.estimate.turns[m.estimate.turns.size() - 2] < s.settle);
  s.settle = 1.01 * *std::min_element(turns.begin(), turns.end());  // one batch alone is not enough
  training::stream_gradients(f.be, m, set, s);
  CHECK(!m.estimate.settled);
  s.settle = 1.01 * std::max(turns[1], turns[2]);
  training::stream_gradients(f.be, m, set, s);
  auto const refined = training::refine_gradients(f.be, m, set, s, some);
  REQUIRE(refined.size() == m.linears().size());
  CHECK(refined[3].count() == some[3].count());
  for (auto* l : m.linears()) CHECK(!l->watcher);
}

TEST_CASE("a start within one backward pass is the one from that batch's dense gradients", "[examples]") {
  fixture f;
  auto const set = test::counting_items(0, 40);
  training::train_spec s{.method = "lora-ga", .rank = 2, .seed = 3};
  s.sample = {1, 5};
  auto const how = training::find_method(s.method);
  auto const make = [&](index_t most_tokens) {
    auto m = f.make(most_tokens);
    training::make_adapters(f.be, m, how, s, std::vector<index_t>(m.linears().size(), s.rank));
    return m;
  };
  auto apart = make(256), within = make(256), small = make(4);
  std::vector<dense_gradient<backend>> all;
  for (auto* l : apart.linears()) all.emplace_back(f.be, l->out(), l->in());
  training::run_watched(f.be, apart, set, s, 1, all, [](index_t) { return false; });
  training::start_frozen(f.be, apart, lora_ga_init{.gamma = s.gamma, .scale = how.scale, .seed = s.seed}, s.seed,
                         frozen_pair_anchor{}, all);
  s.estimate = "one-shot";
  training::start_frozen_adapters(f.be, within, how, s, set);
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto* const a = apart.linears()[i]->adapter.get<lora<float, backend>>();
    auto* const b = within.linears()[i]->adapter.get<lora<float, backend>>();
    CHECK(read_all(f.be, a->a()) == read_all(f.be, b->a()));
    CHECK(read_all(f.be, a->b()) == read_all(f.be, b->b()));
  }
  CHECK(within.estimate.bytes == 48 * 32 * 4);
  CHECK(within.estimate.batches == 1);
  for (auto* l : within.linears()) CHECK(!l->watcher);
  auto const says = [&] {
    return test::message_of([&] { training::start_frozen_adapters(f.be, small, how, s, set); });
  };
  INFO(says());
  CHECK(says().find("expected at least") != std::string::npos);
  for (auto* l : small.linears()) CHECK(!l->adapter.active());
  s.passes = 2;
  CHECK_THROWS_AS(training::start_frozen_adapters(f.be, small, how, s, set), value_error);
  s.estimate = "twice";
  CHECK(says().find("streamed or one-shot") != std::string::npos);
}

TEST_CASE("a base that this decoder cannot be is refused by name", "[examples]") {
  test::small_decoder files;
  auto const says = [&](std::filesystem::path const& path) {
    return test::message_of([&] { model::read_decoder_shape(base_model(path)); });
  };
  auto const gguf = [&](auto change) {
    auto b = test::small_decoder::metadata();
    b.tensors = {{"token_embd.weight", {32, 40}, 0, 0}};
    b.data = std::string(32 * 40 * 4 + 32, '\0');
    change(b);
    test::write_file(files.folder / "other.gguf", b.bytes());
    return says(files.folder / "other.gguf");
  };
  using B = test::gguf_builder&;
  CHECK(gguf([](B) {}) == "");
  CHECK(gguf([](B b) { b.entry("llama.rope.scaling.type", "yarn"); }).find("rope.scaling") != std::string::npos);
  CHECK(gguf([](B b) { b.number<std::uint32_t>("llama.rope.dimension_count", 4, 4); }).find("dimension_count") !=
        std::string::npos);
  CHECK(gguf([](B b) { b.number<std::uint32_t>("llama.expert_count", 4, 8); }).find("no experts") != std::string::npos);
  for (auto const* more :
       {"blk.0.attn_q.bias", "blk.0.attn_q_norm.weight", "blk.0.ffn_gate_exps.weight", "blk.2.attn_q.weight"})
    CHECK(gguf([&](B b) { b.tensors.push_back({more, {1}, 0, 32 * 40 * 4}); }).find("unknown") != std::string::npos);
  auto const config = [&](std::string const& from, std::string const& to) {
    auto text = test::small_decoder::config();
    text.replace(text.find(from), from.size(), to);
    test::write_file(files.safetensors() / "config.json", text);
    return says(files.safetensors());
  };
  CHECK(config("\"llama\"", "\"mistral3\"").find("model_type") != std::string::npos);
  CHECK(config("\"silu\"", "\"gelu\"").find("hidden_act") != std::string::npos);
  CHECK(config("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3").find("key heads") != std::string::npos);
  CHECK(config("\"hidden_size\": 32,", "").find("hidden_size is missing") != std::string::npos);
  CHECK(config("\"vocab_size\": 40", "\"rope_scaling\": {\"type\": \"linear\"}, \"vocab_size\": 40")
            .find("rope_scaling") != std::string::npos);
  CHECK(config("\"vocab_size\": 40", "\"rope_scaling\": {\"rope_type\": \"llama3\"}, \"vocab_size\": 40")
            .find("rope_scaling") != std::string::npos);
}
