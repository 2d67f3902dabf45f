#pragma once
#include "../../examples/tools/init_job.hpp"
#include "../io/adapter_folders.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"

namespace test {

using namespace loraga;

/// Two layers and something that is none; gradients of one as dW, of the other as two micro-batches of dY and X.
struct small_model {
  test::folder folder;
  host const q = test::random(12, 10, 1), v = test::random(8, 10, 2), gq = test::random(12, 10, 3);
  host const dy[2] = {test::random(15, 8, 4), test::random(15, 8, 5)},
             x[2] = {test::random(15, 10, 6), test::random(15, 10, 7)};
  tools::init_options options;

  small_model() {
    write_model(folder / "base", {{"l.0.q.weight", q}, {"l.0.v.weight", v}, {"norm.weight", test::random(10, 1, 8)}});
    write_gradients(gq);
    options.base = folder / "base";
    options.gradients = folder / "gradients";
    options.out = folder / "out";
    options.rank = 2;
    options.targets.names = {"q", "v"};
    options.relative_to = peft_base::original;
  }
  void write_gradients(host const& of_q) {
    std::filesystem::remove(folder / "gradients");
    write_model(folder / "gradients", {{"l.0.q.weight", of_q},
                                       {"l.0.v.dY.0", dy[0]},
                                       {"l.0.v.X.0", x[0]},
                                       {"l.0.v.dY.1", dy[1]},
                                       {"l.0.v.X.1", x[1]}});
  }
  std::vector<tools::layer_report> run() {
    loraga::cpu be(1);
    return tools::init_job(be, options).run();
  }
  host gradient_of_v() const { return 0.5 * (test::transpose(dy[0]) * x[0] + test::transpose(dy[1]) * x[1]); }
};

}  // namespace test
