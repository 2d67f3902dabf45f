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
  for (auto const& [name, w] : weights) specs.push_back({name, type, {w.rows, w.cols}});
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
  check_merge<loraga::half>(dtype::F16, 4e-3);
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
