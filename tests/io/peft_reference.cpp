#include <loraga/io/peft.hpp>

#include "../interop/records_file.hpp"
#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "records.hpp"

// Files that Hugging Face PEFT wrote, or was seen to load, and the numbers it computed (tests/interop/reference.py).

using namespace loraga;
using test::host;

namespace {

std::filesystem::path const reference = std::filesystem::path(LORAGA_TEST_DATA) / "interop/reference";

nlohmann::json json_of(std::filesystem::path const& path) { return nlohmann::json::parse(test::read_file(path)); }

host host_of(stored_tensor const& t) {
  record_matrix m(t.rows(), t.cols());
  read_matrix(t, m.view());
  return test::host_of(m);
}
double root_mean_square(host const& m) { return test::norm(m) / std::sqrt(static_cast<double>(m.data.size())); }

/// W of a record, from what is shaped as the base's files have it.
host weight_of(stored_tensor const& w, nlohmann::json const& c, adapter_record const& r) {
  return is_stored_transposed(r.layer, w, c["fan_in_fan_out"]) ? test::transpose(host_of(w)) : host_of(w);
}

/// Largest difference of a layer's outputs from PEFT's, or of its merged weight, relative to their root mean square.
double deviation(adapter_record const& r, nlohmann::json const& c, safetensors_file const& base,
                 safetensors_file const& data, safetensors_file const& expected) {
  auto const w = test::merged(weight_of(base[weight_name(r.module, c["module_prefix"])], c, r), r);
  if (expected.contains("w." + r.module)) {
    auto const theirs = weight_of(expected["w." + r.module], c, r);
    return test::distance(w, theirs) / root_mean_square(theirs);
  }
  auto const y = host_of(data["x." + r.module]) * test::transpose(w);
  auto const theirs = host_of(expected["y." + r.module]);
  return test::distance(y, theirs) / root_mean_square(theirs);
}

/// Rows of `ours` turned to the side of those of `theirs`: singular vectors have no sign of their own.
host same_sides(host ours, host const& theirs) {
  for (index_t i = 0; i < ours.rows; ++i) {
    double const side = test::inner(test::rows(ours, i, 1), test::rows(theirs, i, 1));
    for (index_t j = 0; j < ours.cols; ++j) ours(i, j) *= side < 0 ? -1 : 1;
  }
  return ours;
}

}  // namespace

TEST_CASE("adapters that PEFT wrote give PEFT's outputs", "[io]") {
  auto const folder = reference / "peft";
  int read = 0, refused = 0, anchored = 0;
  for (auto const& c : json_of(folder / "cases.json")) {
    std::string const name = c["name"];
    INFO(name);
    if (c.contains("refused")) {
      auto const said = test::message_of([&] { load_peft(folder / name); });
      INFO(said);
      auto const what = c["refused"].get<std::string>();
      bool const whole = what == "adapter";  // refused to those who take records alone
      CHECK_THAT(said, Catch::Contains(whole ? "whole, beside its factors" : "adapter_config.json: " + what + " is "));
      if (whole) CHECK(!load_peft(folder / name, {}, whole_layers::take).whole.empty());
      ++refused;
      continue;
    }
    std::optional<peft_base> relative_to;
    if (c.contains("anchored")) {
      CHECK_THROWS_AS(load_peft(folder / name), state_error);
      CHECK_THROWS_AS(load_peft(folder / name, peft_base::original), state_error);
      relative_to = peft_base::anchored;
      ++anchored;
    }
    auto const adapter = load_peft(folder / name, relative_to);
    safetensors_file const base(folder / c["base"]), data(folder / c["data"]);
    safetensors_file const expected(folder / name / "expected.safetensors");
    REQUIRE(adapter.records.size() == expected.tensors().size());
    for (auto const& r : adapter.records) {
      INFO(r.module);
      CHECK(deviation(r, c, base, data, expected) <= 1e-5);
    }
    CHECK(adapter.config.fan_in_fan_out == c["fan_in_fan_out"]);
    ++read;
  }
  CHECK(read >= 17);
  CHECK(anchored >= 4);
  CHECK(refused >= 4);
}

TEST_CASE("adapters are written with the bytes that PEFT was seen to load", "[io]") {
  auto const folder = reference / "ours";
  auto const records = interop::read_records(folder / "records.safetensors");
  REQUIRE(records.size() == 10);
  test::folder made;
  auto const exports = json_of(folder / "exports.json");
  REQUIRE(exports.size() == 5);
  safetensors_model const base(reference / "peft/chain-base.safetensors");
  for (auto const& e : exports) {
    std::string const name = e["folder"];
    INFO(name);
    save_peft(made / name, records, interop::peft_options_of(e), base);
    for (auto const* file : {"adapter_config.json", "adapter_model.safetensors"})
      CHECK(test::read_file(made / name / file) == test::read_file(folder / name / file));
  }
}

TEST_CASE("what PEFT wrote is written again with its bytes", "[io]") {
  auto const folder = reference / "peft";
  test::folder made;
  int count = 0;
  for (auto const& c : json_of(folder / "cases.json")) {
    if (!c.contains("same_bytes")) continue;
    std::string const name = c["name"], file = "adapter_model.safetensors";
    INFO(name);
    save_peft(made / name, load_peft(folder / name).records, {}, unchecked_names{});
    CHECK(test::read_file(made / name / file) == test::read_file(folder / name / file));
    ++count;
  }
  CHECK(count >= 11);
}

TEST_CASE("modules get the rank, scale and selection that PEFT gives them", "[io]") {
  auto const table = json_of(reference / "names.json");
  REQUIRE(table["rows"].size() > 150);
  for (auto const& row : table["rows"]) {
    INFO(row["config"]);
    auto const& theirs = row["peft"];  // null where Python cannot read a pattern
    std::optional<peft_config> config;
    std::optional<peft_scales> scales;
    auto const said = test::message_of([&] {
      config = parse_peft_config(row["config"].get<std::string>(), "config");
      scales.emplace(*config, "config");
    });
    if (theirs.is_null() || !said.empty()) {
      INFO(said);
      CHECK(!said.empty());
      CHECK((theirs.is_null() || row["may_refuse"]));
      continue;
    }
    for (std::size_t i = 0; i < table["modules"].size(); ++i) {
      std::string const module = table["modules"][i];
      INFO(module);
      auto const rank = scales->rank(module);
      if (theirs.contains("rank")) CHECK(rank == theirs["rank"][i]);
      if (theirs.contains("alpha")) CHECK(scales->scale(module) * static_cast<double>(rank) == theirs["alpha"][i]);
      if (theirs.contains("selected")) CHECK(config->targets.selects(module) == (theirs["selected"][i] == 1));
    }
  }
}

TEST_CASE("peft_stable and peft_weight_svd give the factors that PEFT makes of a gradient", "[io]") {
  // The limit is eps*sigma_1/gap, by which a singular vector turns in float; PEFT's own SVD was exact here, because
  // its q is the whole size.
  auto be = test::make_backend();
  auto const folder = reference / "parity";
  safetensors_file const base(folder / "base.safetensors"), gradients(folder / "gradients.safetensors");
  safetensors_file const factors(folder / "factors.safetensors");
  auto const table = json_of(folder / "cases.json");
  double const limit = table["limit"];
  REQUIRE(table["cases"].size() == 6);
  for (auto const& c : table["cases"])
    for (auto const& t : gradients.tensors()) {
      std::string const name = c["name"], direction = c["direction"];
      INFO(name << " of " << t.name);
      auto w = test::upload<float>(be, host_of(base[t.name + ".weight"]));
      dense_gradient<test::backend> gradient(be, w.rows(), w.cols());
      gradient.add(be, test::upload<float>(be, host_of(gradients[t.name])).view());
      lora<float, test::backend> adapter(be, w.rows(), w.cols(), c["rank"], constant_scaling{c["s"]});
      lora_ga_init const init{.gamma = 16,
                              .directions = direction == "ArB2r"   ? ga_directions::ArB2r
                                            : direction == "A2rBr" ? ga_directions::A2rBr
                                                                   : ga_directions::ArBr,
                              .scale = c["scale"] == "stable" ? ga_scale::peft_stable : ga_scale::peft_weight_svd};
      initialise(be, adapter, init, w.view(), gram{}, gradient, in_place_anchor{});
      auto const a = host_of(factors[name + ".A." + t.name]),
                 bt = test::transpose(host_of(factors[name + ".B." + t.name]));
      auto const our_a = test::download(be, adapter.a()), our_bt = test::transpose(test::download(be, adapter.b()));
      CHECK(test::distance(same_sides(our_a, a), a) <= limit * root_mean_square(a));
      CHECK(test::distance(same_sides(our_bt, bt), bt) <= limit * root_mean_square(bt));
    }
}
