#include <loraga/distributed/shard.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

TEST_CASE("even parts are the whole, each row once, and differ by one at most", "[distributed]") {
  for (auto const side : {shard_side::rows, shard_side::columns})
    for (int const ranks : {1, 2, 3, 7}) {
      index_t const out = 29, in = 31, whole = side == shard_side::rows ? out : in;
      std::vector<shard> parts;
      index_t next = 0;
      for (int r = 0; r < ranks; ++r) {
        auto const part = even_shard(side, out, in, r, ranks);
        CHECK(part.first == next);
        CHECK(part.whole() == whole);
        CHECK(part.count >= whole / ranks);
        CHECK(part.count <= whole / ranks + 1);
        CHECK(part.out() == (side == shard_side::rows ? part.count : out));
        CHECK(part.in() == (side == shard_side::rows ? in : part.count));
        next += part.count;
        parts.push_back(part);
      }
      CHECK(next == whole);
      CHECK_NOTHROW(detail::require_whole(parts, "test", nullptr));
      if (ranks == 1) continue;
      auto twice = parts;
      twice[0] = twice[1];
      CHECK(test::message_of([&] { detail::require_whole(twice, "test", nullptr); }).find("every row or column once") !=
            std::string::npos);
      parts.pop_back();
      CHECK(test::message_of([&] { detail::require_whole(parts, "test", nullptr); }).find("end before") !=
            std::string::npos);
    }
}

TEST_CASE("a part's scale is the whole's", "[distributed]") {
  auto const part = even_shard(shard_side::rows, 64, 16, 1, 4);
  struct by_out {
    double scale(index_t out, index_t in, index_t rank) const {
      return static_cast<double>(1000 * out + 10 * in + rank);
    }
  };
  CHECK(of_whole{by_out{}, part}.scale(part.out(), part.in(), 3) == 64163);
  CHECK_THROWS_AS((of_whole{by_out{}, part}.scale(64, 16, 3)), shape_error);
}
