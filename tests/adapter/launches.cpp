#include <loraga/adapter/adalora.hpp>
#include <loraga/adapter/dora.hpp>
#include <loraga/adapter/lora.hpp>
#include <loraga/adapter/lora_sb.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

// What one layer's step hands to a device, as the double of the CUDA libraries counts it.

#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"

using namespace loraga;
using test::host;
using test::upload;

namespace {

constexpr index_t counted_out = 192, counted_in = 160, counted_tokens = 512, counted_rank = 4;
constexpr double x_numbers = counted_in * counted_tokens, y_numbers = counted_out * counted_tokens,
                 w_numbers = counted_out * counted_in;

struct step_cost {
  long launches;
  double bytes;    ///< of products, in numbers of the activations' type
  double scratch;  ///< in numbers of that type
};

/// What a step may cost; numbers read and written by products that are not fused: X for H and dA, dY for dH and dB, Y
/// read and written, dX written. DoRA's products also read W and X for W*X, and W for its norms; it has a matrix of Y's
/// size written twice instead of one that is read and written.
constexpr double floor_of_lora = 2 * x_numbers + 2 * y_numbers + 2 * y_numbers + x_numbers;
constexpr double floor_of_dora = floor_of_lora + 2 * w_numbers + x_numbers;

/// Of adapter A around W, X, Y in T.
template <class A, class T>
step_cost cost_of(bool paired, double dropout, double beta) {
  using V = typename A::value_type;
  auto be = test::make_backend();
  A ad(be, counted_out, counted_in, counted_rank, classic_scaling{8}, {.dropout = dropout, .seed = 3});
  test::upload_to<V>(be, test::random(counted_rank, counted_in, 1, 0.3), ad.a());
  test::upload_to<V>(be, test::random(counted_out, counted_rank, 2, 0.3), ad.b());
  ad.values_changed(be);
  if (paired) test::freeze(be, ad);
  auto const w = upload<T>(be, host(counted_out, counted_in, 1.0)),
             x = upload<T>(be, host(counted_in, counted_tokens, 1.0)),
             dy = upload<T>(be, host(counted_out, counted_tokens, 1.0));
  auto y = upload<T>(be, host(counted_out, counted_tokens)), dx = upload<T>(be, host(counted_in, counted_tokens));
  typename A::tape t;
  device_double::work did{};
  auto const step = [&] {
    auto const before = device_double::counted();
    ad.forward(be, w.view(), x.view(), y.view(), t);
    (void)ad.backward(be, w.view(), x.view(), dy.view(), t, beta, dx.view());
    did = device_double::counted() - before;
  };
  step();  // measures what stays: norms of W, memory
  be.trim();
  step();
  CHECK(did.waits == 0);
  CHECK(did.copies == 0);
  return {did.launches(), did.product_bytes / sizeof(T), static_cast<double>(be.memory().held()) / sizeof(T)};
}

/// At most so many launches and so much scratch, and bytes near the floor.
template <class A, class T>
void check_cost(bool paired, double dropout, long launches, double floor, double scratch, double bytes = 1.1) {
  auto const cost = cost_of<A, T>(paired, dropout, 0);
  CAPTURE(paired, dropout, sizeof(T), cost.launches, cost.bytes / floor, cost.scratch / x_numbers);
  CHECK(cost.launches <= launches);
  CHECK(cost.bytes <= bytes * floor);
  CHECK(cost.scratch <= scratch);
}
template <class T>
void check_costs() {
  // less than any activation in a pass without dropout, where only what is as thin as the rank is temporary
  double const thin = 0.5 * x_numbers, copy = 1.25 * (x_numbers + 0.1 * x_numbers);
  using B = test::backend;
  check_cost<lora<T, B>, T>(false, 0, 6, floor_of_lora, thin);
  check_cost<lora<T, B>, T>(true, 0, 7, floor_of_lora, thin);
  check_cost<lora<T, B>, T>(false, 0.1, 10, floor_of_lora, 2 * copy);
  check_cost<lora<T, B>, T>(true, 0.1, 13, floor_of_lora + 2 * x_numbers, 2 * copy,
                            1.2);  // the start sees X, and so dX, too
  check_cost<adalora<T, B>, T>(false, 0, 13, floor_of_lora, thin);
  check_cost<adalora<T, B>, T>(true, 0, 13, floor_of_lora, thin);
  check_cost<lora_sb<T, B>, T>(false, 0, 7, floor_of_lora, thin);
  check_cost<lora_sb<T, B>, T>(true, 0, 7, floor_of_lora, thin);
  check_cost<dora<T, B>, T>(false, 0, 14, floor_of_dora, 2 * copy);
  check_cost<dora<T, B>, T>(true, 0, 15, floor_of_dora, 2 * copy);
}

}  // namespace

TEST_CASE("a layer's step is few launches, moves little beside its operands, and takes no large memory", "[adapter]") {
  SECTION("float") { check_costs<float>(); }
  SECTION("bf16") { check_costs<bf16>(); }
  SECTION("fp16") { check_costs<fp16>(); }
}

TEST_CASE("dX that is added to is read and written once more, and nothing else", "[adapter]") {
  auto const cost = cost_of<lora<bf16, test::backend>, bf16>(false, 0, 1);
  CHECK(cost.launches == 6);
  CHECK(cost.bytes <= 1.1 * (floor_of_lora + x_numbers));
}

TEST_CASE("float adapters around bf16 make no float copy of an activation", "[adapter]") {
  // three times thin operands and results; parts, sums and stacks of one product at a time
  double const thin = 0.5 * x_numbers;
  check_cost<lora<float, test::backend>, bf16>(false, 0, 16, floor_of_lora, thin, 1.2);
  check_cost<lora<float, test::backend>, bf16>(true, 0, 17, floor_of_lora, 2 * thin, 1.3);
}

TEST_CASE("DoRA's row norms take two products, whatever W's type and size", "[adapter]") {
  auto be = test::make_backend();
  auto const count = [&]<class W, class T>(W, T, index_t rows, index_t cols) {
    auto const w = upload<W>(be, host(rows, cols, 1.0));
    auto const a = upload<T>(be, host(2, cols, 1.0)), b = upload<T>(be, host(rows, 2, 1.0));
    matrix<double, test::backend> squares(be, rows, 1);
    matrix<compute_t<T>, test::backend> norm(be, rows, 1);
    row_squares(be, w.view(), squares.view());
    using view = matrix_view<T const, test::space>;
    auto const before = device_double::counted();
    rescaling_of(be, w.view(), read_only(squares.view()), 1.0, view(b.view()), view(a.view()), norm.view());
    return (device_double::counted() - before).products;
  };
  CHECK(count(bf16(), bf16(), 5000, 16) == 2);
  CHECK(count(float(), bf16(), 5000, 16) == 2);
  CHECK(count(bf16(), float(), 5000, 16) == 2);
  CHECK(count(fp16(), bf16(), 700, 40) == 2);
}
#endif
