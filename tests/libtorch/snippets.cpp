// The document's own includes come first, and this file is compiled apart: they have to be enough.
#include "libtorch_includes.cpp"

namespace {
#include "libtorch.cpp"  // of docs/libtorch.md
}  // namespace

#include "support.hpp"
#include "support/folder.hpp"

TEST_CASE("libtorch: the document's program learns, and saves what it learned") {
  torch::manual_seed(1);
  torch::nn::Linear body(20, 32), head(32, 10);
  classifier model(body, head);
  auto const x = torch::randn({64, 20});
  auto const labels = torch::randint(10, {64}, torch::kLong);
  auto const loss = [&](int) { return torch::nn::functional::cross_entropy(model.forward(x), labels); };
  std::vector<double> losses;
  fine_tune(
      model,
      [&](int i) {
        auto const l = loss(i);
        losses.push_back(l.item<double>());
        return l;
      },
      30);
  auto const after = loss(0).item<double>();
  CHECK(losses[8] == Approx(losses[0]).epsilon(1e-4));  // the start left the model as it was
  CHECK(after < 0.8 * losses[8]);
  test::folder const folder;
  model.eval();
  save(model, folder.path.string());
  CHECK(loraga::load_peft(folder.path).records.size() == 2);
  torch::nn::Sequential again;  // the folder, on the base there was
  torch::manual_seed(1);
  torch::nn::Linear old_body(20, 32), old_head(32, 10);
  again->push_back("body", as_saved(old_body, folder.path.string()));
  again->push_back("relu", torch::nn::Functional(torch::relu));
  again->push_back("head", as_saved(old_head, folder.path.string()));
  loraga::libtorch::load_peft(folder.path, *again);
  CHECK(as_saved(old_body, folder.path.string())->rank() == 16);
  CHECK(libtorch_tests::relative_error(again->forward(x), model.forward(x)) < 1e-4);
  CHECK(loss(0).item<double>() == Approx(after).epsilon(1e-4));
}
