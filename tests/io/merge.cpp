#include <loraga/io/merge.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "records.hpp"

using namespace loraga;

namespace {

template <class T>
void write_model(std::filesystem::path const& path, dtype type,
                 std::vector<std::pair<std::string, test::host>> const& weights) {
  std::vector<tensor_spec> specs;
  for (auto const& [name, w] : weights)
    specs.push_back(
        {name, type,
         name == "c.weight" ? std::vector<index_t>{w.rows, w.cols / 6, 3, 2} : std::vector<index_t>{w.rows, w.cols}});
  safetensors_writer out(path, specs, {{"format", "pt"}});
  for (auto const& [name, w] : weights) {
    std::vector<T> values;
    for (double const x : w.data) values.push_back(static_cast<T>(static_cast<compute_t<T>>(x)));
    out.write(name, col_major(values.data(), w.rows, w.cols));
  }
  out.commit();
}
test::host read(safetensors_model const& m, std::string const& name) {
  auto const t = m[name];
  test::host h(t.rows(), t.cols());
  read_matrix(t, col_major(h.data.data(), h.rows, h.cols));
  return h;
}

template <class T>
void check_merge(dtype type, double tolerance) {
  auto be = test::make_backend();
  test::folder const folder;
  auto const q = test::random(6, 5, 1), v = test::random(4, 5, 2);
  write_model<T>(folder / "base", type, {{"m.q.weight", q}, {"m.v.weight", v}});
  safetensors_model const base(folder / "base");
  auto const r = test::random_record("m.q", 6, 5, 2, 2, 1);
  merge_into_model(be, base, folder / "merged", {r});
  safetensors_model const merged(folder / "merged");
  CHECK(merged["m.q.weight"].type == type);
  CHECK(test::distance(read(merged, "m.q.weight"), q + test::change_of(r)) < tolerance);
  CHECK(read(merged, "m.v.weight").data == read(base, "m.v.weight").data);
  CHECK(merged.files()[0].metadata().at("format") == "pt");
  unmerge_from_model(be, merged, folder / "again", {r});
  CHECK(test::distance(read(safetensors_model(folder / "again"), "m.q.weight"), q) < 2 * tolerance);
  save_anchored_base(be, base, folder / "anchored", {r});
  adapter_record const alone{r.module, r.scale, r.a, r.b, {}, {}};
  CHECK(test::distance(read(safetensors_model(folder / "anchored"), "m.q.weight") + test::change_of(alone),
                       q + test::change_of(r)) < tolerance);
}

}  // namespace

TEST_CASE("merging adds s*(B*A - B0*A0), unmerging takes it out, in every type", "[io]") {
  check_merge<float>(dtype::F32, 1e-5);
  check_merge<double>(dtype::F64, 1e-12);
  check_merge<bf16>(dtype::BF16, 3e-2);
  check_merge<fp16>(dtype::F16, 4e-3);
}

TEST_CASE("convolutions, embeddings, E and magnitudes are merged as what they are", "[io]") {
  auto be = test::make_backend();
  test::folder const folder;
  auto const w = test::random(6, 12, 1);
  auto const read_into = [&](std::string const& name, std::vector<adapter_record> const& records, bool transposed,
                             merge_options const& options = {}) {
    merge_into_model(be, safetensors_model(folder / "base"), folder / name, records, options);
    auto const m = read(safetensors_model(folder / name), records[0].module + ".weight");
    return transposed ? test::transpose(m) : m;
  };
  write_model<float>(folder / "base", dtype::F32,
                     {{"c.weight", w}, {"l.weight", w}, {"words.weight", test::transpose(w)}});
  auto r = test::random_record("c", 6, 12, 2, 1, 1);
  r.layer = {layer_form::convolution, 3, 2};
  CHECK(test::distance(read_into("1", {r}, false), test::merged(w, r)) < 1e-5);
  auto const dora = test::with_magnitude(r);
  CHECK(test::distance(read_into("2", {dora}, false), test::merged(w, dora)) < 1e-5);
  r.layer = {};
  CHECK_THROWS_WITH(read_into("3", {r}, false), Catch::Contains("[6, 2, 3, 2]"));
  auto const e = test::with_e(r);  // a file of AdaLoRA's does not say that it is a convolution
  CHECK(test::distance(read_into("4", {e}, false), test::merged(w, e)) < 1e-5);

  for (auto const form : {layer_form::linear, layer_form::embedding}) {
    bool const embedding = form == layer_form::embedding;
    auto plain = test::random_record(embedding ? "words" : "l", 6, 12, 2, 1, 1);
    plain.layer = {form};
    for (auto const& one : {plain, test::with_e(plain), test::with_magnitude(plain)}) {
      auto const name = plain.module + std::to_string(one.has_e()) + std::to_string(one.has_magnitude());
      CHECK(test::distance(read_into(name, {one}, embedding), test::merged(w, one)) < 1e-5);
    }
  }
  auto in_out = test::with_magnitude(test::random_record("words", 6, 12, 2, 0, 1));
  CHECK(test::distance(read_into("5", {in_out}, true, {.fan_in_fan_out = true}), test::merged(w, in_out)) < 1e-5);
  in_out.layer = {layer_form::embedding};
  in_out.module = "l";
  CHECK_THROWS_AS(read_into("6", {in_out}, true), shape_error);
}

TEST_CASE("a large DoRA is measured over all its pieces, whichever way it lies", "[io]") {
  auto be = test::make_backend();
  test::folder const folder;
  auto const w = test::random(1100, 2000, 1);
  write_model<float>(folder / "base", dtype::F32, {{"m.weight", w}, {"t.weight", test::transpose(w)}});
  safetensors_model const base(folder / "base");
  auto const m = test::with_magnitude(test::random_record("m", 1100, 2000, 1, 0, 1));
  auto t = m;
  t.module = "t";
  t.layer = {layer_form::embedding};
  merge_into_model(be, base, folder / "merged", {m, t});
  safetensors_model const merged(folder / "merged");
  auto const expected = test::merged(w, m);
  CHECK(test::distance(read(merged, "m.weight"), expected) < 1e-5);
  CHECK(test::distance(test::transpose(read(merged, "t.weight")), expected) < 1e-5);
}

TEST_CASE("a DoRA is merged alone, and not taken out", "[io]") {
  auto be = test::make_backend();
  test::folder const folder;
  auto w = test::random(6, 5, 1);
  for (index_t j = 0; j < 5; ++j) w(2, j) = 0;
  write_model<double>(folder / "base", dtype::F64, {{"m.weight", w}});
  safetensors_model const base(folder / "base");
  auto r = test::with_magnitude(test::random_record("m", 6, 5, 2, 0, 1));
  CHECK_THROWS_WITH(unmerge_from_model(be, base, folder / "to", {r}), Catch::Contains("their own are lost"));
  CHECK_THROWS_WITH(merge_into_model(be, base, folder / "to", {r, r}), Catch::Contains("alone"));
  CHECK(folder.count() == 1);
  for (index_t j = 0; j < 2; ++j) r.b.view()(2, j) = 0;  // a row without a direction stays what it is
  merge_into_model(be, base, folder / "to", {r});
  auto const merged = read(safetensors_model(folder / "to"), "m.weight");
  CHECK(test::norm(test::rows(merged, 2, 1)) == 0);
  CHECK(test::norm(test::rows(merged, 3, 1)) == Approx(static_cast<double>(r.magnitude.values[3])).epsilon(1e-12));
}

TEST_CASE("several adapters of one module are rounded once", "[io]") {
  auto be = test::make_backend();
  test::folder const folder;
  auto const w = test::random(6, 5, 1);
  write_model<float>(folder / "base", dtype::F32, {{"m.weight", w}});
  auto const r = test::random_record("m", 6, 5, 2, 0, 1), p = test::random_record("m", 6, 5, 1, 0, 2);
  merge_into_model(be, safetensors_model(folder / "base"), folder / "merged", {r, p});
  CHECK(test::distance(read(safetensors_model(folder / "merged"), "m.weight"),
                       w + test::change_of(r) + test::change_of(p)) < 1e-5);
}

TEST_CASE("bases stored in x out, with a prefix, in several files", "[io]") {
  auto be = test::make_backend();
  test::folder const folder;
  std::filesystem::create_directory(folder / "base");
  auto const c = test::random(5, 7, 1), other = test::random(3, 3, 2);
  write_model<float>(folder / "base/model-1.safetensors", dtype::F32, {{"h.0.c_attn.weight", c}});
  write_model<float>(folder / "base/model-2.safetensors", dtype::F32, {{"wte.weight", other}});
  test::write_file(folder / "base/model.safetensors.index.json",
                   R"({"weight_map":{"h.0.c_attn.weight":"model-1.safetensors","wte.weight":"model-2.safetensors"}})");
  safetensors_model const base(folder / "base");
  auto const r = test::random_record("transformer.h.0.c_attn", 7, 5, 2, 0, 1);
  std::vector<index_t> seen;
  merge_into_model(
      be, base, folder / "merged", {r},
      {.fan_in_fan_out = true, .module_prefix = "transformer.", .progress = [&](index_t done, index_t all) {
         seen.push_back(done);
         CHECK(all == 2);
       }});
  CHECK(seen == std::vector<index_t>{1, 2});
  safetensors_model const merged(folder / "merged");
  CHECK(merged.files().size() == 2);
  CHECK(test::distance(read(merged, "h.0.c_attn.weight"), c + test::transpose(test::change_of(r))) < 1e-5);
  CHECK(read(merged, "wte.weight").data == read(base, "wte.weight").data);
}

TEST_CASE("a merge that cannot be is refused before anything is written", "[io]") {
  auto be = test::make_backend();
  test::folder const folder;
  write_model<float>(folder / "base", dtype::F32, {{"m.weight", test::random(6, 5, 1)}});
  write_model<float>(folder / "other", dtype::F32, {{"m.weight", test::random(6, 5, 1)}});
  safetensors_model const base(folder / "base");
  auto const r = test::random_record("m", 6, 5, 2, 0, 1), anchored = test::random_record("m", 6, 5, 2, 1, 1);
  auto const to = folder / "to";
  CHECK_THROWS_AS(merge_into_model(be, base, to, {}), value_error);
  CHECK_THROWS_AS(merge_into_model(be, base, to, {test::random_record("n", 6, 5, 2, 0, 1)}), value_error);
  CHECK_THROWS_AS(merge_into_model(be, base, to, {test::random_record("m", 5, 6, 2, 0, 1)}), shape_error);
  CHECK_THROWS_AS(write_changed_model(be, base, to, {anchored}, 1), state_error);
  CHECK_THROWS_AS(save_anchored_base(be, base, to, {r}), state_error);
  CHECK_THROWS_WITH(merge_into_model(be, base, folder / "base", {r}, {.may_replace = overwrite::yes}),
                    Catch::Contains("the base itself"));
  CHECK_THROWS_AS(merge_into_model(be, base, folder / "other", {r}), file_error);
  CHECK(folder.count() == 2);
}
