// What an estimate of many ranks sends, takes and loses; started by mpirun, one JSON line from rank 0.
//   estimate KIND OUT IN LAYERS RANK TOKENS BATCHES SPECTRUM [judge]
// KIND: dense | incremental | streamed. BATCHES micro-batches in all are dealt out to the ranks. SPECTRUM: falling |
// flat. With `judge` rank 0 also forms the mean gradient of the first layer and says what share of the best 2*RANK
// triplets' energy the estimate's miss.
//   estimate network                     speed of messages among these ranks: bytes per second, seconds per message
#include <chrono>
#include <fstream>
#include <functional>
#include <loraga/cpu.hpp>
#include <loraga/distributed.hpp>
#include <loraga/distributed/mpi.hpp>
#include <sstream>

namespace {

using namespace loraga;
using counted = counted_communicator<mpi_communicator>;
using clock_type = std::chrono::steady_clock;

struct settings {
  std::string kind, spectrum;
  index_t out, in, layers, rank, tokens, batches;
  bool judge;
};

/// dY and X of every micro-batch: strong directions that both share, whose strengths fall, and noise.
class source {
  static constexpr index_t strong = 96;
  settings const& s_;
  matrix<float, cpu> left_, right_, common_, dy_, x_;

 public:
  source(cpu& be, settings const& s)
      : s_(s),
        left_(be, s.out, strong),
        right_(be, s.in, strong),
        common_(be, strong, s.tokens),
        dy_(be, s.out, s.tokens),
        x_(be, s.in, s.tokens) {
    double const power = s.spectrum == "flat" ? -0.25 : -0.5;
    std::uint64_t number = 1;
    for (auto* m : {&left_, &right_}) {
      fill_normal(be, m->view(), {number++, 7}, 1);
      for (index_t j = 0; j < strong; ++j)
        for (index_t i = 0; i < m->rows(); ++i)
          m->view()(i, j) *= static_cast<float>(std::pow(static_cast<double>(j + 1), power));
    }
  }
  /// Micro-batch `b` of a layer.
  template <class F>
  void give(cpu& be, index_t layer, index_t b, F const& to) {
    random_stream const stream{static_cast<std::uint64_t>(1000 * layer + b), 11};
    fill_normal(be, common_.view(), stream, 1);
    fill_normal(be, dy_.view(), derive(stream, 1), 0.3);
    fill_normal(be, x_.view(), derive(stream, 2), 0.3);
    be.gemm(1.0, left_.view(), common_.view(), 1.0, dy_.view());
    be.gemm(1.0, right_.view(), common_.view(), 1.0, x_.view());
    to(matrix_view<float const, host_space>(dy_.view()), matrix_view<float const, host_space>(x_.view()));
  }
};

double bytes_on_the_wire() {
  std::ifstream file("/proc/net/dev");
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::string name;
    double received = 0;
    if (in >> name >> received && name == "lo:") return received;
  }
  return 0;
}

/// A part of the job, timed between meetings of all ranks.
struct part {
  double seconds = 0, wire = 0;
  traffic sent;
};
template <class F>
part timed(cpu& be, counted& comm, F const& work) {
  agree(be, comm, "begin");
  auto const before = comm.count;
  double const wire = bytes_on_the_wire();
  auto const began = clock_type::now();
  work();
  agree(be, comm, "end");
  part p;
  p.seconds = std::chrono::duration<double>(clock_type::now() - began).count();
  p.wire = bytes_on_the_wire() - wire;
  p.sent = {comm.count.messages - before.messages, comm.count.meetings - before.meetings - 1,
            comm.count.sent - before.sent};
  return p;
}

/// The share of the best 2r triplets' energy that these miss, on the worse side.
template <class G>
double loss_of(cpu& be, settings const& s, source& from, G const& estimate) {
  dense_gradient<cpu> whole(be, s.out, s.in);
  for (index_t b = 0; b < s.batches; ++b) from.give(be, 0, b, [&](auto dy, auto x) { whole.add_outer(be, dy, x); });
  index_t const k = 2 * s.rank;
  auto const best = whole.top(be, automatic_svd{.quality = svd_quality::tight}, k);
  auto const ours = estimate.top(be, automatic_svd{.quality = svd_quality::tight}, k);
  auto const energy = [&](auto const& f, bool left) {
    auto const g = left ? whole.sum() : whole.sum().transposed();
    auto const q = left ? f.u : f.v;
    matrix<float, cpu> product(be, k, g.cols);
    matrix<double, cpu> sum(be, 1, 1);
    be.gemm(1.0, q.transposed(), g, 0.0, product.view());
    sum_of_squares(be, product.view(), sum.view());
    return read_scalar(be, sum.view());
  };
  return 1 - std::min(energy(ours[0], true) / energy(best[0], true), energy(ours[0], false) / energy(best[0], false));
}

struct report {
  part feed, combine, start, step;
  double loss = 0;
  bool judged = false;
};

template <class G>
void start_and_step(cpu& be, counted& comm, settings const& s, std::vector<G const*> const& sources, report& r) {
  using adapter = lora<float, cpu>;
  std::vector<adapter> adapters;
  std::vector<layer<adapter, no_weight, G>> layers;
  for (auto const* g : sources) adapters.emplace_back(be, g->rows(), g->cols(), s.rank, classic_scaling{});
  for (std::size_t i = 0; i < adapters.size(); ++i) layers.push_back({&adapters[i], {}, sources[i]});
  r.start = timed(be, comm, [&] {
    initialise(be, layers, lora_ga_init{}, automatic_svd{}, frozen_pair_anchor{}, over_ranks(comm));
  });
  gradient_average<cpu> average;
  for (auto& ad : adapters) {
    ad.zero_gradient(be);
    average.add(ad);
  }
  average.run(be, comm);  // its memory
  r.step = timed(be, comm, [&] { average.run(be, comm); });
}

/// Each rank's own accumulators, then one for all.
template <class G>
report accumulate(cpu& be, counted& comm, settings const& s) {
  report r;
  source from(be, s);
  std::vector<G> all;
  for (index_t l = 0; l < s.layers; ++l) all.emplace_back(be, s.out, s.in, gradient_options{.rank = s.rank});
  double feeding = 0;
  agree(be, comm, "begin");
  for (index_t b = comm.rank(); b < s.batches; b += comm.size())
    for (index_t l = 0; l < s.layers; ++l)
      from.give(be, l, b, [&](auto dy, auto x) {
        auto const began = clock_type::now();
        all[static_cast<std::size_t>(l)].add_outer(be, dy, x);
        feeding += std::chrono::duration<double>(clock_type::now() - began).count();
      });
  for (auto const& text : agree(be, comm, "fed", {}, detail::packed(std::vector{feeding})))
    r.feed.seconds = std::max(r.feed.seconds, detail::unpacked<double>(text)[0]);
  r.combine = timed(be, comm, [&] { combine(be, comm, all); });
  std::vector<G const*> sources;
  for (auto const& g : all) sources.push_back(&g);
  start_and_step(be, comm, s, sources, r);
  if ((r.judged = s.judge && comm.rank() == 0)) r.loss = loss_of(be, s, from, all[0]);
  return r;
}

report stream(cpu& be, counted& comm, settings const& s) {
  report r;
  source from(be, s);
  std::vector<layer_size> const sizes(static_cast<std::size_t>(s.layers), layer_size{s.out, s.in});
  streamed_gradient<counted, cpu> all(be, comm, sizes, {.rank = s.rank});
  for (index_t first = 0; first < s.batches; first += comm.size()) {
    for (index_t l = 0; l < s.layers; ++l) {
      std::function<void()> add = [&] { all.add_nothing(be, l); };
      index_t const b = first + comm.rank();
      if (b < s.batches)
        from.give(be, l, b, [&](auto dy, auto x) { add = [&, dy, x] { all.add_outer(be, l, dy, x); }; });
      auto const p = timed(be, comm, [&] {
        add();
        if (l + 1 == s.layers) all.flush(be);
      });
      r.feed.seconds += p.seconds;
      r.feed.wire += p.wire;
      r.feed.sent.messages += p.sent.messages;
      r.feed.sent.meetings += p.sent.meetings;
      r.feed.sent.sent += p.sent.sent;
    }
  }
  std::vector<incremental_gradient<cpu> const*> sources;
  for (index_t l = 0; l < s.layers; ++l) sources.push_back(&all.estimate()[l]);
  start_and_step(be, comm, s, sources, r);
  if ((r.judged = s.judge && comm.rank() == 0)) r.loss = loss_of(be, s, from, all.estimate()[0]);
  return r;
}

void print(report const& r) {
  auto const one = [](char const* name, part const& p) {
    std::printf(
        "\"%s\": {\"seconds\": %.6f, \"messages\": %lld, \"meetings\": %lld, \"sent\": %.0f, \"wire_all\": %.0f}", name,
        p.seconds, static_cast<long long>(p.sent.messages), static_cast<long long>(p.sent.meetings), p.sent.sent,
        p.wire);
  };
  std::printf("{");
  one("feed", r.feed), std::printf(", "), one("combine", r.combine), std::printf(", ");
  one("start", r.start), std::printf(", "), one("step", r.step);
  if (r.judged) std::printf(", \"loss\": %.3e", r.loss);
  std::printf("}\n");
}

void network(cpu& be, counted& comm) {
  auto const median = [&](int times, auto const& work) {
    std::vector<double> all;
    for (int i = 0; i < times; ++i) all.push_back(timed(be, comm, work).seconds);
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
  };
  constexpr index_t numbers = 4 << 20;
  matrix<float, cpu> data(be, numbers, 1);
  fill(be, data.view(), 0);
  double const small = median(101, [&] { agree(be, comm, "small"); }) / 2;  // timed() itself ends with one
  double const large = median(9, [&] { comm.all_reduce(be, data.view().data, numbers); }) - small;
  double const bytes = 2 * (1 - 1.0 / comm.size()) * 4 * static_cast<double>(numbers);
  if (comm.rank() == 0) std::printf("{\"bandwidth\": %.6g, \"latency\": %.6g}\n", bytes / large, small);
}

}  // namespace

int main(int argc, char** argv) {
  mpi_session const session(argc, argv);
  mpi_communicator comm;
  counted meter(comm);
  cpu be(1);
  try {
    together(be, comm, [&] {
      if (argc == 2 && std::string(argv[1]) == "network") return network(be, meter);
      if (argc < 9)
        throw std::runtime_error("estimate: " + std::to_string(argc - 1) + " arguments, expected those above");
      settings const s{argv[1],
                       argv[8],
                       std::stol(argv[2]),
                       std::stol(argv[3]),
                       std::stol(argv[4]),
                       std::stol(argv[5]),
                       std::stol(argv[6]),
                       std::stol(argv[7]),
                       argc > 9};
      report r;
      if (s.kind == "dense") r = accumulate<dense_gradient<cpu>>(be, meter, s);
      else if (s.kind == "incremental") r = accumulate<incremental_gradient<cpu>>(be, meter, s);
      else if (s.kind == "streamed") r = stream(be, meter, s);
      else throw std::runtime_error("estimate: kind is " + s.kind + ", expected dense, incremental or streamed");
      if (comm.rank() == 0) print(r);
    });
  } catch (rank_error const& failure) {
    if (comm.rank() == 0) std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}
