#include "streams.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <vector>

// Every stream has a queue. A seeded draw at each call decides whether some stream works now, and how much; waits run
// what they wait for. One piece of work runs at a time, under the lock of all queues: it never waits for anything.

namespace device_double {

struct item {
  std::vector<point> after;
  std::function<void()> work;
  char const* function;
};
struct queue {
  bool blocking;  // in turns with the legacy stream
  std::deque<item> items;
  long pushed = 0, done = 0;
};

namespace {

using shared_queue = std::shared_ptr<queue>;

struct all_queues {
  std::recursive_mutex mutex;
  std::atomic<std::uint64_t> seed;
  std::atomic<bool> dry{false};
  std::uint64_t draws = 0;
  std::vector<shared_queue> all;  // those with work, and the standing ones
  shared_queue legacy = std::make_shared<queue>(queue{true, {}, 0, 0}), per_thread = legacy;
  all_queues() {
    char const* const asked = std::getenv("LORAGA_DOUBLE_SEED");
    seed = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 0;
    per_thread = std::make_shared<queue>(queue{true, {}, 0, 0});
    all = {legacy, per_thread};
  }
};
all_queues& queues() {
  static all_queues& all = *new all_queues;  // never destroyed: other statics may give memory back after it
  return all;
}
using queue_lock = std::lock_guard<std::recursive_mutex>;

shared_queue queue_of(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy) return queues().legacy;
  return stream == cudaStreamPerThread ? queues().per_thread : stream->work;
}

void run_next(queue& q) {
  item next = std::move(q.items.front());
  q.items.pop_front();
  for (point const& p : next.after) finish(p);
  as_function(next.function, next.work);
  ++q.done;
}
void run_until(queue& q, long position) {
  while (q.done < position) run_next(q);
}

/// splitmix64 of a seed and a counter.
std::uint64_t draw() {
  std::uint64_t z = queues().seed + 0x9e3779b97f4a7c15u * ++queues().draws;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// A seed also decides how eager the device is: every fourth one works only where somebody waits.
void maybe_work() {
  static constexpr unsigned one_in[] = {0, 2, 8, 32};
  unsigned const odds = one_in[queues().seed % 4];
  std::uint64_t const z = draw();
  if (odds == 0 || z % odds != 0) return;
  std::vector<queue*> busy;
  for (auto const& q : queues().all)
    if (!q->items.empty()) busy.push_back(q.get());
  if (busy.empty()) return;
  queue& q = *busy[(z >> 8) % busy.size()];
  auto const most = static_cast<long>(1 + (z >> 32) % (2 * odds));
  run_until(q, std::min(q.pushed, q.done + most));
}

void add(cudaStream_t stream, item next) {
  queue_lock const guard(queues().mutex);
  auto const mine = queue_of(stream);
  auto const after_end_of = [&](shared_queue const& q) {
    if (!q->items.empty()) next.after.push_back({q, q->pushed});
  };
  if (mine == queues().legacy) {
    for (auto const& q : queues().all)
      if (q != mine && q->blocking) after_end_of(q);
  } else if (mine->blocking) {
    after_end_of(queues().legacy);
  }
  mine->items.push_back(std::move(next));
  ++mine->pushed;
  maybe_work();
}

}  // namespace

bool is_dry() { return queues().dry; }
bool is_delayed() { return queues().seed != 0 && !queues().dry; }
void dry(bool on) {
  finish_all();
  queues().dry = on;
}
void delay(std::uint64_t seed) {
  finish_all();
  queue_lock const guard(queues().mutex);
  queues().seed = seed;
  queues().draws = 0;
}
std::uint64_t delayed_by() { return queues().seed; }

point end_of(cudaStream_t stream) {
  queue_lock const guard(queues().mutex);
  auto const q = queue_of(stream);
  return {q, q->pushed};
}
bool reached(point const& p) {
  queue_lock const guard(queues().mutex);
  return !p.in || p.in->done >= p.position;
}
void finish(point const& p) {
  queue_lock const guard(queues().mutex);
  if (p.in) run_until(*p.in, p.position);
}
void finish(cudaStream_t stream) { finish(end_of(stream)); }
void finish_all() {
  queue_lock const guard(queues().mutex);
  auto const all = queues().all;
  for (auto const& q : all) run_until(*q, q->pushed);
}
void advance(cudaStream_t stream) {
  queue_lock const guard(queues().mutex);
  auto const q = queue_of(stream);
  if (!q->items.empty()) run_next(*q);
}

void wait_for(cudaStream_t stream, point const& p) {
  if (!is_delayed() || reached(p)) return;
  add(stream, {{p}, [] {}, current_function()});
}
void push(cudaStream_t stream, std::function<void()> work) { add(stream, {{}, std::move(work), current_function()}); }

std::shared_ptr<queue> new_queue(bool blocking) {
  queue_lock const guard(queues().mutex);
  auto& all = queues().all;
  std::erase_if(all, [](shared_queue const& q) { return q.use_count() == 1 && q->items.empty(); });
  return all.emplace_back(std::make_shared<queue>(queue{blocking, {}, 0, 0}));
}

}  // namespace device_double
