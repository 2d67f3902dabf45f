#include <loraga/initialise.hpp>

#include "checks.hpp"

// What a model's start asks of a GPU, counted by the double while it computes nothing.

#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"

namespace {

using namespace loraga;

/// Llama-2-7B's linears, which need gradients of 26 GB, or some of them.
template <class T>
struct counted_model {
  using adapter = lora<T, test::backend>;
  using gradient = dense_gradient<test::backend>;
  using layer_of = layer<adapter, matrix_view<T, test::space>, gradient>;

  test::backend be = test::make_backend();
  std::vector<adapter> adapters;
  std::vector<matrix<T, test::backend>> weights;
  std::vector<gradient> gradients;
  std::vector<layer_of> layers;

  explicit counted_model(index_t rank, index_t share = 1) {
    struct some {
      index_t count, out, in;
    };
    for (auto const [count, out, in] : {some{128, 4096, 4096}, {64, 11008, 4096}, {32, 4096, 11008}})
      for (index_t i = 0; i < count / share; ++i) {
        adapters.emplace_back(be, out, in, rank, rank_stable_scaling{16});
        weights.emplace_back(be, out, in);
        gradients.emplace_back(be, out, in);
        gradients.back().add(be, gradients.back().sum());
      }
    for (std::size_t i = 0; i < adapters.size(); ++i)
      layers.push_back({&adapters[i], weights[i].view(), &gradients[i], {}});
  }
};

struct counting {
  counting() {
    device_double::dry(true);
    device_double::dry_answers([](void* to, std::size_t width, std::size_t count) {
      double const report[] = {1, 1, 0};  // sizes of A and B, flags
      auto* const cells = static_cast<double*>(to);
      for (std::size_t i = 0; i < width * count / sizeof(double); ++i) cells[i] = report[i % 3];
    });
  }
  ~counting() {
    device_double::dry_answers({});
    device_double::dry(false);
  }
};

template <class T>
device_double::work start_of(counted_model<T>& model) {
  auto const before = device_double::counted();
  device_double::reset_peak_device_bytes();
  initialise(model.be, std::span(std::as_const(model.layers)), lora_ga_init{}, in_place_anchor{});
  return device_double::counted() - before;
}

void check_start(index_t rank, long launches) {
  INFO("rank " << rank);
  counting const on;
  long one = 0;
  for (bool const wide : {true, false}) {
    auto const did = [&] {
      if (wide) {
        counted_model<float> model(rank);
        return start_of(model);
      }
      counted_model<bf16> model(rank);
      return start_of(model);
    }();
    INFO(did.kernels << " kernels, " << did.products << " products, " << did.solvers << " solvers, " << did.copies
                     << " copies, " << did.waits << " waits, at most "
                     << static_cast<double>(device_double::peak_device_bytes()) / 1e9 << " GB");
    CHECK(did.launches() <= launches);
    CHECK(did.waits <= 3);
    one = did.launches();
  }
  counted_model<bf16> part(rank, 4);
  CHECK(4 * start_of(part).launches() > one);  // they are those of shapes, not of layers
}

}  // namespace

TEST_CASE("a model of 224 layers starts with few launches and looks", "[init]") {
  check_start(8, 400);
  check_start(32, 460);
  check_start(128, 1500);
}
#endif
