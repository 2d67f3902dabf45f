#include <loraga/core/workspace.hpp>
#include <memory>
#include <new>

#include "../support/catch.hpp"

namespace {

struct counting_backend {
  using space = loraga::host_space;
  int allocations = 0;
  loraga::workspace<std::unique_ptr<std::byte[]>> memory_;
  template <class T>
  std::unique_ptr<T[]> allocate(loraga::index_t n) {
    ++allocations;
    return std::unique_ptr<T[]>(new T[static_cast<std::size_t>(n)]);
  }
  auto& memory() { return memory_; }
};

struct failing_backend : counting_backend {
  int fail_at = 1 << 30;
  template <class T>
  std::unique_ptr<T[]> allocate(loraga::index_t n) {
    if (allocations + 1 >= fail_at) throw std::bad_alloc();
    return counting_backend::allocate<T>(n);
  }
};

void step(counting_backend& be) {
  loraga::scratch<counting_backend> outer(be);
  auto const a = outer.matrix<float>(1000, 100);
  a(999, 99) = 1;
  {
    loraga::scratch<counting_backend> inner(be);
    auto const b = inner.matrix<double>(2000, 100);
    b(1999, 99) = 2;
    CHECK(a(999, 99) == 1);
  }
  auto const c = outer.slab<double>(3, 100, 7);
  c[2](99, 6) = 3;
  CHECK(a(999, 99) == 1);
}

}  // namespace

TEST_CASE("scratch memory is a stack that allocates only while it grows", "[core]") {
  counting_backend be;
  step(be);
  int const first = be.allocations;
  CHECK(first > 0);
  for (int i = 0; i < 5; ++i) step(be);
  CHECK(be.allocations == first);
}

TEST_CASE("growing shapes hold at most twice the largest; trim gives it back", "[core]") {
  counting_backend be;
  loraga::index_t largest = 0;
  int coalesced = 0;
  for (loraga::index_t n = 1; n <= 1000; ++n) {  // texts of rising length: several buffers each, some within others
    loraga::index_t const held = be.memory_.held();
    {
      loraga::scratch<counting_backend> outer(be);
      outer.matrix<float>(n, 500);
      {
        loraga::scratch<counting_backend> inner(be);
        inner.matrix<double>(n, 200);
        inner.matrix<float>(n, 10);
      }
      outer.matrix<float>(n, 100);
      largest = std::max(largest, n * (2000 + 1600 + 40) + 3 * 256);
      CHECK(be.memory_.held() <= std::max<loraga::index_t>(2 * largest, 4 * be.memory_.smallest_block));
    }
    CHECK(be.memory_.held() <= std::max<loraga::index_t>(2 * largest, 4 * be.memory_.smallest_block));
    coalesced += be.memory_.held() != held;
  }
  CHECK(coalesced < 40);  // a quarter more each time: growth is rare
  CHECK(be.allocations < 150);
  {
    loraga::scratch<counting_backend> in_use(be);
    auto const m = in_use.matrix<float>(10, 10);
    be.memory_.trim();
    m(9, 9) = 3;  // still there
    CHECK(be.memory_.held() > 0);
  }
  be.memory_.trim();
  CHECK(be.memory_.held() == 0);
  step(be);
}

TEST_CASE("the first step of a shape is the last that allocates, whatever came before", "[core]") {
  counting_backend be;
  for (loraga::index_t const n : {3, 700, 20, 5000}) {
    auto const of_size = [&] {
      loraga::scratch<counting_backend> s(be);
      for (int i = 0; i < 7; ++i) s.matrix<float>(n, 100);
    };
    of_size();
    int const before = be.allocations;
    for (int i = 0; i < 3; ++i) of_size();
    CHECK(be.allocations == before);
  }
}

TEST_CASE("memory that a captured step used stays where it is", "[core]") {
  struct capturing_backend : counting_backend {
    bool now = false;
    bool capturing() const { return now; }
  } be;
  using scratch = loraga::scratch<capturing_backend>;
  float* captured = nullptr;
  auto const of_size = [&](loraga::index_t n) {
    scratch s(be);
    captured = s.matrix<float>(n, 100).data;
    s.matrix<float>(n, 100);
  };
  of_size(1000);
  be.now = true;
  of_size(1000);
  float* const there = captured;
  be.now = false;
  of_size(5000);  // a larger step between replays
  be.memory_.trim();
  of_size(1000);
  CHECK(captured == there);
}

TEST_CASE("a failed allocation while blocks become one leaves a workspace that works", "[core]") {
  failing_backend be;
  auto const of_two = [&] {
    loraga::scratch<failing_backend> s(be);
    s.matrix<float>(1000, 100)(999, 99) = 1;
    s.matrix<float>(1000, 100)(999, 99) = 1;
  };
  be.fail_at = 3;
  of_two();
  CHECK(be.memory_.held() == 0);
  CHECK_THROWS_AS(of_two(), std::bad_alloc);
  be.fail_at = 1 << 30;
  of_two();
}

TEST_CASE("what a scope took is free again after it, and aligned", "[core]") {
  counting_backend be;
  float* first = nullptr;
  for (int i = 0; i < 2; ++i) {
    loraga::scratch<counting_backend> s(be);
    auto const one = s.matrix<float>(3, 1), two = s.matrix<float>(3, 1);
    CHECK((reinterpret_cast<char*>(two.data) - reinterpret_cast<char*>(one.data)) % 256 == 0);
    CHECK(one.data != two.data);
    if (i == 0) first = one.data;
    else CHECK(one.data == first);
  }
}

TEST_CASE("what a piece of work added is given back if it is much, and does not decide what is kept", "[core]") {
  counting_backend be;
  auto const take = [&](loraga::index_t bytes) { loraga::scratch<counting_backend>(be).matrix<std::byte>(bytes, 1); };
  take(1000);
  loraga::index_t const held = be.memory_.held();
  {
    loraga::scratch<counting_backend> in_use(be);
    auto const kept = in_use.matrix<float>(3, 1);
    kept(2, 0) = 5;
    auto const before = be.memory_.holding();
    take(1 << 20);
    be.memory_.shrink(before, 1 << 21);
    CHECK(be.memory_.held() > held);  // not much
    be.memory_.shrink(before, 1 << 19);
    CHECK(be.memory_.held() == held);
    {
      loraga::scratch<counting_backend> more(be);
      auto const large = more.matrix<float>(1 << 18, 1);
      be.memory_.shrink(before, 0);
      large((1 << 18) - 1, 0) = 3;  // in use, so it stays
    }
    be.memory_.shrink(before, 0);
    CHECK(be.memory_.held() == held);
    CHECK(kept(2, 0) == 5);
  }
  take(1000);
  CHECK(be.memory_.held() == held);
  {
    loraga::scratch<counting_backend> small(be);
    small.matrix<std::byte>(1 << 16, 1);
    small.matrix<std::byte>(1 << 17, 1);
  }
  CHECK(be.memory_.held() < 1 << 18);  // one block for these, not for the megabyte
}

TEST_CASE("a large block is larger than what was in use by 64 MB at most", "[core]") {
  counting_backend be;
  loraga::index_t const large = loraga::index_t{600} << 20;
  {
    loraga::scratch<counting_backend> s(be);
    s.matrix<std::byte>(large / 2, 1);
    s.matrix<std::byte>(large / 2, 1);
  }
  CHECK(be.memory_.held() == large + be.memory_.most_reserve);
}

TEST_CASE("blocks that were added after a capture are given back, those of the capture stay", "[core]") {
  struct capturing_backend : counting_backend {
    bool now = false;
    bool capturing() const { return now; }
  } be;
  auto const take = [&](loraga::index_t bytes) { loraga::scratch<capturing_backend>(be).matrix<std::byte>(bytes, 1); };
  take(1 << 18);
  be.now = true;
  take(1 << 18);
  be.now = false;
  loraga::index_t const held = be.memory_.held();
  take(1 << 22);
  CHECK(be.memory_.held() > held);
  be.memory_.trim();
  CHECK(be.memory_.held() == held);
}
