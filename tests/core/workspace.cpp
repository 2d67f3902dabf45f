#include <loraga/core/workspace.hpp>
#include <memory>

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
