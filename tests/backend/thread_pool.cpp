#include <chrono>
#include <loraga/backend/thread_pool.hpp>
#include <numeric>
#include <stdexcept>

#include "../support/catch.hpp"

using loraga::index_t;

TEST_CASE("every task runs once, round after round", "[backend]") {
  loraga::thread_pool pool(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<int> hits(101);
    pool.run(101, [&](index_t i, int worker) {
      if (worker < 0 || worker > 3) throw std::logic_error("worker out of range");
      ++hits[static_cast<std::size_t>(i)];
    });
    CHECK(std::accumulate(hits.begin(), hits.end(), 0) == 101);
    CHECK(*std::max_element(hits.begin(), hits.end()) == 1);
  }
  pool.run(0, [](index_t, int) { FAIL("there is nothing to run"); });
}

TEST_CASE("loops follow each other at once or after a rest, and each sees what the last one wrote", "[backend]") {
  for (int helpers : {1, 3}) {
    loraga::thread_pool pool(helpers);
    std::vector<index_t> values(64, 0);  // no atomics: each round's tasks are others
    for (index_t round = 1; round <= 200; ++round) {
      if (round % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // its threads go to sleep
      index_t const n = round % 2 == 0 ? 64 : 3;
      pool.run(n, [&](index_t i, int) {
        for (index_t j = i; j < 64; j += n) ++values[static_cast<std::size_t>(j)];
      });
      CHECK(std::count(values.begin(), values.end(), round) == 64);
    }
  }
}

TEST_CASE("the first task's exception surfaces after all have run", "[backend]") {
  loraga::thread_pool pool(2);
  std::atomic<int> ran{0};
  auto const task = [&](index_t i, int) {
    ++ran;
    if (i == 7 || i == 3) throw std::runtime_error("task " + std::to_string(i));
  };
  CHECK_THROWS_WITH(pool.run(20, task), "task 3");
  CHECK(ran == 20);
  CHECK_NOTHROW(pool.run(5, [](index_t, int) {}));
}
