// One optimiser, gradient list or step over many tensors at once: what each alone would give, in a fixed number of
// launches on a GPU.
#include <loraga/optim/adamw.hpp>

#include "../init/checks.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

using namespace loraga;
using test::download;
using test::host;

namespace {

enum class layout { columns, gaps, rows, rows_with_gaps, gradient_by_rows };

/// A tensor in any layout; gaps hold a number that must stay.
template <class T>
class odd_tensor {
  using C = compute_t<T>;
  layout how_;
  index_t rows_, cols_;
  matrix<T, test::backend> value_;
  matrix<C, test::backend> gradient_, master_;

  bool by_rows() const { return how_ == layout::rows || how_ == layout::rows_with_gaps; }
  bool gaps() const { return how_ == layout::gaps || how_ == layout::rows_with_gaps; }
  template <class U>
  matrix_view<U, test::space> shown(matrix<U, test::backend>& m, bool by_rows) {
    auto const v = m.view();
    index_t const lines = by_rows ? rows_ : cols_, length = by_rows ? cols_ : rows_;
    matrix_view<U, test::space> const down{v.data, length, lines, 1, length + (gaps() ? 3 : 0)};
    return by_rows ? down.transposed() : down;
  }

 public:
  static constexpr double gap = 7;
  odd_tensor(test::backend& be, index_t rows, index_t cols, layout how, std::uint64_t seed)
      : how_(how), rows_(rows), cols_(cols) {
    index_t const size = (rows + 3) * (cols + 3);
    value_ = {be, size, 1};
    gradient_ = {be, size, 1};
    master_ = {be, size, 1};
    fill(be, value_.view(), gap);
    fill(be, gradient_.view(), gap);
    fill(be, master_.view(), gap);
    auto const p = parameter_of();
    fill_normal(be, p.value, {seed, 1}, 1);
    fill_normal(be, p.gradient, {seed, 2}, 1);
    if constexpr (is_16bit<T>) convert(be, p.value, p.master);
  }
  parameter<T, test::space> parameter_of() {
    return {"p", parameter_kind::other, shown(value_, by_rows()),
            shown(gradient_, by_rows() || how_ == layout::gradient_by_rows), shown(master_, by_rows())};
  }
  /// All memory, gaps included.
  auto all(test::backend& be) {
    return std::tuple(download(be, value_.view()).data, download(be, gradient_.view()).data,
                      download(be, master_.view()).data);
  }
  /// Whether nothing was written between columns, or behind the last.
  bool gaps_untouched(test::backend& be) {
    auto const values = download(be, value_.view()).data;
    auto const kept = std::count(values.begin(), values.end(), gap);
    return kept >= static_cast<long>(values.size()) - static_cast<long>(rows_ * cols_);
  }
};

/// Around a chunk's size, much smaller, empty, and a thousand more.
template <class T>
std::vector<odd_tensor<T>> odd_tensors(test::backend& be, int small) {
  std::vector<std::pair<index_t, index_t>> const shapes{{1, 1},  {1, 9},    {9, 1},    {0, 4},    {4, 0},   {64, 64},
                                                        {17, 5}, {4095, 1}, {1, 4097}, {3, 2731}, {90, 91}, {5000, 2}};
  std::vector<odd_tensor<T>> all;
  for (auto const how : {layout::columns, layout::gaps, layout::rows, layout::rows_with_gaps, layout::gradient_by_rows})
    for (auto const& [rows, cols] : shapes) all.emplace_back(be, rows, cols, how, all.size());
  for (int i = 0; i < small; ++i) all.emplace_back(be, 1 + i % 3, 1 + i % 4, layout::columns, all.size());
  return all;
}

template <class T>
std::vector<test::view<compute_t<T>>> gradients_of(std::vector<odd_tensor<T>>& tensors) {
  std::vector<test::view<compute_t<T>>> all;
  for (auto& t : tensors) all.push_back(t.parameter_of().gradient);
  return all;
}

template <class T>
using steps_of = adamw<T, test::backend, cosine_schedule>;

template <class T>
void check_step_of_many(int small) {
  auto be = test::make_backend();
  auto together = odd_tensors<T>(be, small), alone = odd_tensors<T>(be, small);
  cosine_schedule const schedule{.total = 5, .warmup = 2};
  adamw_group const groups[] = {{.learning_rate = 1e-2, .weight_decay = 0.1}, {.learning_rate = 3e-3, .ratio = 16}};
  steps_of<T> opt(be, schedule);
  std::vector<steps_of<T>> each;
  for (std::size_t i = 0; i < together.size(); ++i) {
    opt.add(be, opt.group(be, groups[i % 2]), together[i].parameter_of());
    each.emplace_back(be, schedule);
    each.back().add(be, each.back().group(be, groups[i % 2]), alone[i].parameter_of());
  }
  for (int t = 0; t < 3; ++t) {
    opt.step(be);
    for (auto& one : each) one.step(be);
  }
  std::size_t equal = 0, kept = 0;
  for (std::size_t i = 0; i < together.size(); ++i) {
    equal += together[i].all(be) == alone[i].all(be);
    kept += together[i].gaps_untouched(be);
  }
  CHECK(equal == together.size());
  CHECK(kept == together.size());
  auto const fresh = odd_tensor<T>(be, 64, 64, layout::columns, 5).all(be);
  CHECK(std::get<0>(together[5].all(be)) != std::get<0>(fresh));
  CHECK(std::get<1>(together[5].all(be)) == std::get<1>(fresh));  // gradients are left as they are
}

}  // namespace

TEST_CASE("a step over many tensors of odd shapes is that of each alone, bit for bit", "[optim]") {
  check_step_of_many<float>(1000);
  check_step_of_many<double>(5);
  check_step_of_many<bf16>(5);
}

TEST_CASE("a layout changes no bit of a step", "[optim]") {
  auto be = test::make_backend();
  steps_of<float> opt(be, {.total = 5});
  std::vector<odd_tensor<float>> tensors;
  for (auto const how :
       {layout::columns, layout::gaps, layout::rows, layout::rows_with_gaps, layout::gradient_by_rows}) {
    tensors.emplace_back(be, 90, 91, how, 3);
    opt.add(be, opt.group(be, {.learning_rate = 1e-2, .weight_decay = 0.1}), tensors.back().parameter_of());
  }
  for (int t = 0; t < 3; ++t) opt.step(be);
  auto const first = download(be, tensors[0].parameter_of().value).data;
  for (auto& t : tensors) CHECK(download(be, t.parameter_of().value).data == first);
}

TEST_CASE("a clipped step is clipping and then a step, and leaves gradients as they are", "[optim]") {
  auto be = test::make_backend();
  auto clipped = odd_tensors<float>(be, 40), separate = odd_tensors<float>(be, 40);
  steps_of<float> opt(be, {.total = 9}), opt2(be, {.total = 9});
  for (auto& t : clipped) opt.add(be, opt.group(be, {.learning_rate = 1e-2}), t.parameter_of());
  for (auto& t : separate) opt2.add(be, opt2.group(be, {.learning_rate = 1e-2}), t.parameter_of());
  matrix<double, test::backend> norm(be, 1, 1), norm2(be, 1, 1);
  auto const gradients = gradients_of(separate);
  auto const before = std::get<1>(clipped[5].all(be));
  double expected = 0;
  for (auto& t : clipped) expected = std::hypot(expected, test::norm(download(be, t.parameter_of().gradient)));
  for (double const limit : {expected * 2, expected / 3}) {
    opt.step(be, limit, norm.view());
    clip_gradients(be, gradients, limit, norm2.view());
    opt2.step(be);
    CHECK(read_scalar(be, norm.view()) == Approx(expected).epsilon(1e-12));
    CHECK(read_scalar(be, norm2.view()) == Approx(expected).epsilon(1e-12));
    double most = 0;
    for (std::size_t i = 0; i < clipped.size(); ++i)
      most = std::max(most, test::distance(download(be, clipped[i].parameter_of().value),
                                           download(be, separate[i].parameter_of().value)));
    CHECK(most < 1e-6);
  }
  CHECK(std::get<1>(clipped[5].all(be)) == before);
  CHECK(std::get<1>(separate[5].all(be)) != before);
  CHECK_THROWS_AS(opt.step(be, 0.0, norm.view()), value_error);
  CHECK_THROWS_AS(opt.step(be, 1.0, test::view<double>{}), shape_error);
  opt.zero_gradients(be);
  for (auto& t : clipped) CHECK(test::norm(download(be, t.parameter_of().gradient)) == 0);
  CHECK(clipped[15].gaps_untouched(be));
  opt.step(be, 1.0, norm.view());
  CHECK(read_scalar(be, norm.view()) == 0);
  fill(be, clipped[5].parameter_of().gradient, NAN);
  opt.step(be, 1.0, norm.view());
  CHECK(std::isnan(read_scalar(be, norm.view())));
}

TEST_CASE("a list of gradients is clipped and zeroed as one", "[optim]") {
  auto be = test::make_backend();
  auto tensors = odd_tensors<float>(be, 40), others = odd_tensors<float>(be, 40);
  gradient_list<test::backend> list;
  matrix<double, test::backend> norm(be, 1, 1), norm2(be, 1, 1);
  list.joint_norm(be, norm.view());  // of none
  CHECK(read_scalar(be, norm.view()) == 0);
  for (auto const& g : gradients_of(tensors)) list.add(g);
  for (double const limit : {1e9, 3.0}) {
    list.clip(be, limit, norm.view());
    clip_gradients(be, gradients_of(others), limit, norm2.view());
    CHECK(read_scalar(be, norm.view()) == Approx(read_scalar(be, norm2.view())).epsilon(1e-12));
    double most = 0;
    for (std::size_t i = 0; i < tensors.size(); ++i)
      most = std::max(most, test::distance(download(be, tensors[i].parameter_of().gradient),
                                           download(be, others[i].parameter_of().gradient)));
    CHECK(most < 1e-6);
  }
  list.joint_norm(be, norm.view());
  CHECK(read_scalar(be, norm.view()) == Approx(3).epsilon(1e-6));
  odd_tensor<float> late(be, 6, 5, layout::rows, 1);
  list.add(late.parameter_of().gradient);
  list.zero(be);
  for (auto const& g : gradients_of(tensors)) CHECK(test::norm(download(be, g)) == 0);
  CHECK(test::norm(download(be, late.parameter_of().gradient)) == 0);
  CHECK(late.gaps_untouched(be));
  CHECK_THROWS_AS(list.add({nullptr, 2, 2, 1, 2}), shape_error);
  CHECK_THROWS_AS(list.clip(be, -1, norm.view()), value_error);
  CHECK_THROWS_AS(list.joint_norm(be, test::view<double>{}), shape_error);
}

TEST_CASE("parameters added after steps, and slices of one buffer, are stepped; overlapping ones are refused",
          "[optim]") {
  auto be = test::make_backend();
  matrix<float, test::backend> value(be, 8, 12), gradient(be, 8, 12);
  fill(be, value.view(), 1);
  fill(be, gradient.view(), 1);
  auto const part = [&](index_t row, index_t rows, index_t col, index_t cols) {
    return parameter<float, test::space>{"p", parameter_kind::other,
                                         value.view().row_range(row, rows).columns(col, cols),
                                         gradient.view().row_range(row, rows).columns(col, cols)};
  };
  adamw<float, test::backend> opt(be);
  auto const g = opt.add_group(be, {.learning_rate = 0.1});
  opt.add(be, g, part(0, 4, 0, 12));
  opt.step(be);
  opt.add(be, g, part(4, 4, 0, 6));  // between the columns of the first
  opt.step(be);
  for (auto const& p : {part(3, 2, 0, 1), part(0, 8, 11, 1), part(4, 1, 5, 1), part(0, 1, 0, 1)})
    CHECK_THROWS_AS(opt.add(be, g, p), state_error);
  opt.add(be, g, part(4, 4, 6, 6));
  opt.step(be);
  auto const seen = download(be, value.view());
  CHECK(seen(0, 0) == Approx(0.7).epsilon(1e-5));
  CHECK(seen(7, 5) < seen(7, 6));
  CHECK(seen(7, 6) < 1);
}

#ifdef LORAGA_TEST_DOUBLE
TEST_CASE("a step, clipping and zeroing are six launches, whatever the number of tensors", "[optim]") {
  auto be = test::make_backend();
  matrix<double, test::backend> norm(be, 1, 1);
  for (int const layers : {1, 224}) {
    std::vector<lora<float, test::backend>> adapters;
    adamw<float, test::backend> opt(be);
    gradient_list<test::backend> gradients;
    for (int i = 0; i < layers; ++i) adapters.emplace_back(be, 40, 30, 8, classic_scaling{});
    for (auto& ad : adapters) add_adapter(be, opt, ad, {.learning_rate = 1e-3}, 16), gradients.add(ad.gradient());
    auto const of = [&](auto const& work) {
      work();  // takes memory
      auto const before = device_double::counted();
      work();
      auto const did = device_double::counted() - before;
      CHECK(did.waits == 0);
      return did.launches();
    };
    CHECK(of([&] {
            opt.zero_gradients(be);
            opt.step(be, 1.0, norm.view());
          }) <= 6);
    CHECK(of([&] { opt.step(be); }) == 2);
    CHECK(of([&] { gradients.zero(be); }) == 1);
    CHECK(of([&] { gradients.clip(be, 1.0, norm.view()); }) <= 4);
  }
}

TEST_CASE("a step that gets no memory for its tables changes nothing", "[optim][.fault]") {
  auto be = test::make_backend();
  odd_tensor<float> tensor(be, 6, 5, layout::columns, 1), other(be, 6, 5, layout::columns, 1);
  steps_of<float> opt(be, {.total = 5}), never_failed(be, {.total = 5});
  opt.add(be, opt.group(be, {}), tensor.parameter_of());
  never_failed.add(be, never_failed.group(be, {}), other.parameter_of());
  auto const before = tensor.all(be);
  device_double::fail_next("cudaMallocFromPoolAsync", cudaErrorMemoryAllocation);
  CHECK_THROWS_AS(opt.step(be), backend_error);
  CHECK(tensor.all(be) == before);
  opt.step(be);
  never_failed.step(be);
  CHECK(tensor.all(be) == other.all(be));
}
#endif
