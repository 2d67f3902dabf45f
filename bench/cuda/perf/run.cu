#include "run.cuh"

#ifndef LORAGA_BENCH_ON_HOST
#include <cuda_profiler_api.h>
#endif

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <thread>

#include "launches.cuh"

namespace perf {

namespace {

/// Between two events on a stream.
class stopwatch {
  cudaEvent_t events_[2] = {};
  cudaStream_t stream_;

 public:
  explicit stopwatch(backend& be) : stream_(be.stream()) {
    for (auto& e : events_) loraga::gpu::check(cudaEventCreateWithFlags(&e, cudaEventDefault), "cudaEventCreate");
  }
  ~stopwatch() {
    for (auto e : events_) cudaEventDestroy(e);
  }
  stopwatch(stopwatch const&) = delete;
  stopwatch& operator=(stopwatch const&) = delete;
  double seconds(std::function<void()> const& work, int times) {
    loraga::gpu::check(cudaEventRecord(events_[0], stream_), "cudaEventRecord");
    for (int i = 0; i < times; ++i) work();
    loraga::gpu::check(cudaEventRecord(events_[1], stream_), "cudaEventRecord");
    loraga::gpu::check(cudaEventSynchronize(events_[1]), "cudaEventSynchronize");
    float milliseconds = 0;
    loraga::gpu::check(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) / 1000 / times;
  }
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

times time_of(backend& be, settings const& how, std::function<void()> const& work,
              std::function<void()> const& before) {
  stopwatch watch(be);
  auto const run = [&](int group) {
    if (before) before();
    return watch.seconds(work, group);
  };
  run(1);
  double const once = run(1);
  int const group = before ? 1 : static_cast<int>(std::clamp(1e-3 / std::max(once, 1e-7), 1.0, 50.0));
  std::vector<double> all;
  double const end = now() + how.seconds;
  while (all.size() < 3 || (all.size() < 50 && now() < end)) all.push_back(run(group));
  std::sort(all.begin(), all.end());
  return {all[all.size() / 2], all.front(), static_cast<int>(all.size()) * group};
}

times time_of_replays(backend& be, settings const& how, std::function<void()> const& work) {
#ifdef LORAGA_BENCH_ON_HOST
  (void)be, (void)how, (void)work;
  return {};
#else
  work();
  work();  // takes the memory of its shapes
  be.synchronize();
  cudaGraph_t graph = nullptr;
  loraga::gpu::check(cudaStreamBeginCapture(be.stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  std::string failure;
  try {
    work();
  } catch (std::exception const& e) {
    failure = e.what();
  }
  auto const ended = cudaStreamEndCapture(be.stream(), &graph);
  cudaGraphExec_t replay = nullptr;
  bool const captured =
      failure.empty() && ended == cudaSuccess && cudaGraphInstantiate(&replay, graph, 0) == cudaSuccess;
  if (!captured) {
    cudaGetLastError();
    std::fprintf(stderr, "perf: not captured: %s (%d)\n", failure.c_str(), static_cast<int>(ended));
    return {};
  }
  auto const t = time_of(be, how, [&] { loraga::gpu::check(cudaGraphLaunch(replay, be.stream()), "cudaGraphLaunch"); });
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  return t;
#endif
}

result::result(std::string const& section, std::string const& name)
    : text_("{\"section\": \"" + section + "\", \"case\": \"" + name + "\"") {}
result& result::with(char const* key, double value) {
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.9g", value);
  text_ += ", \"" + std::string(key) + "\": " + (std::isfinite(value) ? digits : "null");
  return *this;
}
result& result::with(char const* key, std::string const& value) {
  text_ += ", \"" + std::string(key) + "\": \"" + value + "\"";
  return *this;
}
result::~result() {
  std::printf("%s}\n", text_.c_str());
  std::fflush(stdout);
}

result& with_times(result& r, times const& t) {
  if (t.runs == 0) return r;
  return r.with("seconds", t.median).with("seconds_fastest", t.fastest).with("runs", t.runs);
}

void profile(backend& be, std::function<void()> const& work) {
  work();
  be.synchronize();
#ifndef LORAGA_BENCH_ON_HOST
  loraga::gpu::check(cudaProfilerStart(), "cudaProfilerStart");
#endif
  work();
  be.synchronize();
#ifndef LORAGA_BENCH_ON_HOST
  loraga::gpu::check(cudaProfilerStop(), "cudaProfilerStop");
#endif
}

double launches_of(backend& be, std::function<void()> const& work) {
  return count_launches([&] {
    work();
    be.synchronize();
  });
}

void timed::operator()(std::string const& name, std::function<void()> const& work, double error, double flops) const {
  auto const eager = time_of(be, how, work);
  auto const replayed = time_of_replays(be, how, work);
  result r(section, name);
  with_times(r, eager).with("launches", launches_of(be, work));
  if (error >= 0) r.with("error", error);
  if (flops > 0) r.with("flops", flops);
  if (replayed.runs > 0) r.with("graph_seconds", replayed.median);
}

#ifdef LORAGA_BENCH_ON_HOST

double free_memory() { return std::nan(""); }
double memory_peak_of(backend&, std::function<void()> const& work) {
  work();
  return std::nan("");
}

#else

double free_memory() {
  std::size_t free = 0, total = 0;
  loraga::gpu::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<double>(free);
}
double memory_peak_of(backend& be, std::function<void()> const& work) {
  be.synchronize();
  be.trim();
  be.synchronize();
  double const before = free_memory();
  std::atomic<double> least = before;
  std::atomic<bool> done = false;
  int device = 0;
  loraga::gpu::check(cudaGetDevice(&device), "cudaGetDevice");
  std::thread watcher([&] {
    cudaSetDevice(device);
    while (!done) {
      std::size_t free = 0, total = 0;
      if (cudaMemGetInfo(&free, &total) == cudaSuccess) least = std::min(least.load(), static_cast<double>(free));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  std::string failure;
  try {
    work();
    be.synchronize();
  } catch (std::exception const& e) {
    failure = e.what();
  }
  done = true;
  watcher.join();
  if (!failure.empty()) throw std::runtime_error(failure);
  return before - least;
}

#endif

}  // namespace perf
