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
