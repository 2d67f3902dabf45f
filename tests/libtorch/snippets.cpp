#include "support.hpp"
#include "support/folder.hpp"

namespace {
#include "libtorch.cpp"  // of docs/libtorch.md
}  // namespace

TEST_CASE("libtorch: the document's program learns, and saves what it learned") {
  torch::manual_seed(1);
  classifier model(torch::nn::Linear(20, 32), torch::nn::Linear(32, 10));
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
  save(model, folder.path.string());
  CHECK(loraga::load_peft(folder.path).records.size() == 2);
  CHECK(loss(0).item<double>() == Approx(after).epsilon(1e-4));
}
