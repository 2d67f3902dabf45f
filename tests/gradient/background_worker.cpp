#include <loraga/gradient/background_worker.hpp>

#include <atomic>
#include <chrono>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::backend;
using worker = background_worker<backend>;

namespace {

/// Something a task waits for, so that tests decide when it ends.
struct gate {
  std::atomic<bool> open{false};
  void wait() const {
    while (!open) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
};

}  // namespace

TEST_CASE("tasks run in order, on what was staged, while the caller goes on", "[gradient]") {
  gate g;
  auto be = test::make_backend();
  worker w(be, 2);
  auto source = test::upload<float>(be, test::host(3, 1, 1));
  std::vector<double> seen;
  std::atomic<int> done{0};
  for (int i = 0; i < 2; ++i) {
    w.submit(
        be, 12,
        [&](std::byte* p) { be.copy(source.view(), col_major<test::space>(reinterpret_cast<float*>(p), 3, 1)); },
        [&](backend& side, std::byte* p) {
          g.wait();
          seen.push_back(test::download(side, col_major<test::space>(reinterpret_cast<float*>(p), 3, 1))(2, 0));
          ++done;
        });
    fill(be, source.view(), 5 + i);  // what was handed over is not changed by this
  }
  CHECK(done == 0);
  g.open = true;
  w.join();
  CHECK(seen == std::vector<double>{1, 5});
}

TEST_CASE("a submission waits for a slot, not for the work behind it", "[gradient]") {
  gate g;
  auto be = test::make_backend();
  worker w(be, 1);
  auto const number = [](std::byte* p) { return col_major<test::space>(reinterpret_cast<float*>(p), 1, 1); };
  std::vector<double> seen;
  std::atomic<int> submitted{0};
  std::thread training([&] {
    be.attach_thread();
    for (int i = 0; i < 20; ++i) {
      w.submit(
          be, 100 * (i + 1), [&](std::byte* p) { fill(be, number(p), i); },
          [&](backend& side, std::byte* p) {
            g.wait();
            seen.push_back(static_cast<double>(read_scalar(side, number(p))));
          });
      ++submitted;
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(submitted == 1);  // the only slot is full until the gate opens
  g.open = true;
  training.join();
  w.join();
  REQUIRE(seen.size() == 20);
  for (std::size_t i = 0; i < 20; ++i) CHECK(seen[i] == static_cast<double>(i));
  CHECK_THROWS_AS(worker(be, 0), value_error);
}

TEST_CASE("what a task throws reaches the caller", "[gradient]") {
  gate g;
  auto be = test::make_backend();
  worker w(be);
  CHECK_THROWS_AS(w.run([](backend&) { throw shape_error("here"); }), shape_error);
  CHECK_NOTHROW(w.run([](backend&) {}));  // the caller was told; nothing is lost
  std::atomic<int> later{0};
  w.submit(
      be, 8, [](std::byte*) {},
      [&](backend&, std::byte*) {
        g.wait();
        throw numeric_error("there");
      });
  w.submit(
      be, 8, [](std::byte*) {}, [&](backend&, std::byte*) { ++later; });
  g.open = true;
  CHECK_THROWS_AS(w.join(), numeric_error);
  CHECK_THROWS_AS(w.join(), numeric_error);
  CHECK_THROWS_AS(w.submit(
                      be, 8, [](std::byte*) {}, [&](backend&, std::byte*) { ++later; }),
                  numeric_error);
  CHECK(later == 0);
}

TEST_CASE("while one panel is worked on the next one is fetched, and no third", "[gradient]") {
  gate first;
  auto be = test::make_backend();
  std::atomic<int> fetched{0}, worked{0};
  std::vector<int> order;
  auto const number = [](std::byte* p) { return col_major<test::space>(reinterpret_cast<float*>(p), 1, 1); };
  {
    worker w(be, 4, 3);
    for (int i = 0; i < 4; ++i)
      w.submit_home(
          be, 4, [&](std::byte* p) { fill(be, number(p), i); },
          [&, number](backend& side, std::byte* p, std::byte* home) {
            side.copy(number(p), col_major(reinterpret_cast<float*>(home), 1, 1));
            ++fetched;
          },
          [&, i](std::byte* home, index_t part, index_t parts) {
            if (i == 0) first.wait();
            CHECK(part == 0);
            CHECK(parts == 1);
            order.push_back(static_cast<int>(*reinterpret_cast<float*>(home)));
            ++worked;
          });
    auto const until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (fetched < 2 && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(fetched == 2);  // the second beside the work on the first; a third has no buffer
    CHECK(worked == 0);   // the second panel waits for its turn: it may belong to the same sum
    first.open = true;
    w.run([&](backend&) { CHECK(worked == 4); });
  }
  CHECK(order == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("a panel's parts go to several threads at once", "[gradient]") {
  auto be = test::make_backend();
  worker w(be, 2, 2);
  std::atomic<int> here{0};
  index_t const bytes = index_t{1} << 19;
  w.submit_home(
      be, bytes, [](std::byte*) {}, [](backend&, std::byte*, std::byte*) {},
      [&](std::byte*, index_t, index_t parts) {
        CHECK(parts == 2);
        ++here;
        auto const until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (here < 2 && std::chrono::steady_clock::now() < until)
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        CHECK(here == 2);
      });
  CHECK_NOTHROW(w.join());
  CHECK_THROWS_AS(worker(be, 1, -1), value_error);
}

TEST_CASE("what fetching or working on a panel throws reaches the caller, and frees the buffer", "[gradient]") {
  auto be = test::make_backend();
  for (bool const fetching : {true, false}) {
    INFO((fetching ? "fetch" : "work"));
    worker w(be, 1, 2);
    std::atomic<int> worked{0};
    for (int i = 0; i < 5; ++i) try {
        w.submit_home(
            be, 8, [](std::byte*) {},
            [=](backend&, std::byte*, std::byte*) {
              if (fetching && i == 1) throw numeric_error("there");
            },
            [&worked, fetching, i](std::byte*, index_t, index_t) {
              if (!fetching && i == 1) throw numeric_error("there");
              std::this_thread::sleep_for(std::chrono::milliseconds(30));  // join waits for it, though fetching failed
              ++worked;
            });
      } catch (numeric_error const&) {
      }
    CHECK_THROWS_AS(w.join(), numeric_error);
    CHECK_THROWS_AS(w.join(), numeric_error);
    CHECK(worked == 1);  // nothing after the failure
  }
}

TEST_CASE("work that was given is finished before the worker goes", "[gradient]") {
  auto be = test::make_backend();
  std::atomic<int> done{0};
  {
    worker w(be, 3);
    for (int i = 0; i < 3; ++i)
      w.submit(
          be, 8, [](std::byte*) {}, [&](backend&, std::byte*) { ++done; });
  }
  CHECK(done == 3);
}
