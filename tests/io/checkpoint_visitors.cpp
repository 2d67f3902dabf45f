#include <loraga/io/checkpoint_visitors.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;

namespace {

/// An object within another: names are joined by dots.
struct visited_inside {
  double number = 2;
  std::string word = "four";
  template <class C>
  void visit_state(C& c) {
    c("number", number);
    c("word", word);
    c.same("fixed", index_t{3});
  }
};

}  // namespace

TEST_CASE("a survey lists what a checkpoint will hold: names, types, shapes", "[io]") {
  auto be = test::make_backend();
  matrix<float, test::backend> m(be, 3, 2), none;
  std::vector<index_t> list(5);
  visited_inside object;
  format::checkpoint_survey<test::backend> survey(be);
  survey("matrix", m.view());
  survey("list", list);
  survey("object", object);
  survey.optional("there", m, 3, 2);
  survey.optional("missing", none, 3, 2);
  using shape = std::vector<index_t>;
  std::vector<std::tuple<std::string, dtype, shape>> const expected{
      {"matrix", dtype::F32, {3, 2}},  {"list", dtype::I64, {5}},        {"object.number", dtype::F64, {}},
      {"object.word", dtype::U8, {4}}, {"object.fixed", dtype::I64, {}}, {"there", dtype::F32, {3, 2}}};
  REQUIRE(survey.specs.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(survey.specs[i].name == std::get<0>(expected[i]));
    CHECK(survey.specs[i].type == std::get<1>(expected[i]));
    CHECK(survey.specs[i].shape == std::get<2>(expected[i]));
  }
}
