#include <loraga/distributed/loopback.hpp>
#include <loraga/init/gaussian_pair.hpp>
#include <loraga/initialise.hpp>
#include <loraga/io/gather_record.hpp>
#include <loraga/io/peft.hpp>
#include <loraga/io/peft_writer.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "../support/ranks.hpp"
#include "records.hpp"

using namespace loraga;

namespace {

/// An adapter of a whole layer, trained away from a frozen start or without one, and this rank's part of it.
template <class T>
struct whole_and_part {
  using low_rank = lora<T, test::backend>;
  shard part;
  low_rank whole, mine;

  whole_and_part(test::backend& be, shard p, bool anchored)
      : part(p),
        whole(be, p.whole_out, p.whole_in, 3, rank_stable_scaling{}),
        mine(be, p.out(), p.in(), 3, of_whole<rank_stable_scaling>{{}, p}) {
    initialise(be, whole, gaussian_pair_init{}, unanchored{});
    auto const a = read_only(p.of_a(whole.a())), b = read_only(p.of_b(whole.b()));
    if (anchored) {
      whole.freeze_start(be, whole.a(), whole.b());
      whole.start(be, whole.a(), whole.b());
      mine.freeze_start(be, a, b);
    }
    mine.start(be, a, b);
    mine.values_changed(be);
    move(be, test::random(3, p.whole_in, 5), test::random(p.whole_out, 3, 6));
  }
  /// Other A and B, as after training.
  void move(test::backend& be, test::host const& a, test::host const& b) {
    test::upload_to<T>(be, a, whole.a());
    test::upload_to<T>(be, b, whole.b());
    be.copy(read_only(part.of_a(whole.a())), mine.a());
    be.copy(read_only(part.of_b(whole.b())), mine.b());
  }
};

bool equals(record_matrix const& a, record_matrix const& b) {
  return a.rows == b.rows && a.cols == b.cols && a.values == b.values;
}
bool equals(adapter_record const& a, adapter_record const& b) {
  return a.module == b.module && a.scale == b.scale && a.type == b.type && equals(a.a, b.a) && equals(a.b, b.b) &&
         equals(a.start_a, b.start_a) && equals(a.start_b, b.start_b);
}

template <class T>
void check_gather() {
  for (int const n : test::rank_counts())
    for (auto const side : {shard_side::rows, shard_side::columns})
      for (bool const anchored : {false, true}) {
        auto const all = test::on_ranks(n, [&](test::backend& be, auto& comm) {
          whole_and_part<T> one(be, even_shard(side, 29, 23, comm.rank(), comm.size()), anchored);
          auto const expected = take_record(be, one.whole, "q");
          auto const found = gather_record(be, comm, one.mine, one.part, "q");
          return std::vector<double>{equals(found, expected) && found.anchored() == anchored ? 1.0 : 0.0};
        });
        for (auto const& one : all) {
          INFO(n << " ranks: " << one.error);
          CHECK(one.values == std::vector<double>{1});
        }
      }
}

}  // namespace

TEST_CASE("records of parts become the record of the whole layer", "[io][distributed]") {
  check_gather<float>();
  check_gather<bf16>();
}

TEST_CASE("one file holds what all ranks trained", "[io][distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](test::backend& be, auto& comm) {
      whole_and_part<float> q(be, even_shard(shard_side::rows, 29, 23, comm.rank(), comm.size()), true);
      whole_and_part<float> o(be, even_shard(shard_side::columns, 23, 29, comm.rank(), comm.size()), true);
      std::vector<adapter_record> records;
      records.push_back(gather_record(be, comm, q.mine, q.part, "q"));
      records.push_back(gather_record(be, comm, o.mine, o.part, "o"));
      std::vector<double> differences;
      if (comm.rank() > 0) return differences;
      test::folder const folder;
      save_peft(folder / "a", records, {.base = peft_base::original}, unchecked_names{});
      for (auto const& record : load_peft(folder / "a").records) {
        auto const expected = test::change_of(take_record(be, record.module == "q" ? q.whole : o.whole, "m"));
        differences.push_back(test::distance(test::change_of(record), expected) / test::largest(expected));
      }
      return differences;
    });
    for (auto const& one : all) CHECK(one.error == "");
    REQUIRE(all[0].values.size() == 2);
    CHECK(std::max(all[0].values[0], all[0].values[1]) < 1e-6);
  }
}

TEST_CASE("records that do not belong together are refused by all ranks, in the same words", "[io][distributed]") {
  auto const check = [](std::string const& expected, auto const& spoil) {
    for (int const n : test::rank_counts()) {
      if (n == 1) continue;
      auto const all = test::on_ranks(n, [&](test::backend& be, auto& comm) {
        whole_and_part<float> one(be, even_shard(shard_side::rows, 29, 23, comm.rank(), comm.size()), true);
        if (comm.rank() == 1) spoil(be, one);
        (void)gather_record(be, comm, one.mine, one.part, "q");
        return std::vector<double>();
      });
      for (auto const& one : all) {
        CHECK_THAT(one.error, Catch::Contains(expected));
        CHECK(one.error == all[0].error);
      }
    }
  };
  check("gather_record(q): A of rank 1 is another than rank 0's", [](test::backend& be, auto& one) {
    be.copy(test::upload<float>(be, test::random(3, 23, 50)).view(), one.mine.a());
  });
  check("gather_record(q): A of rank 1 is another than rank 0's", [](test::backend& be, auto& one) {  // A0
    one.mine.freeze_start(be, test::upload<float>(be, test::random(3, 23, 50)).view(), one.mine.b());
    one.mine.start(be, one.mine.a(), one.mine.b());
  });
  check("gather_record(q): the part of rank 1 is rows", [](test::backend&, auto& one) { one.part.first -= 1; });
  check("rank 1 of", [](test::backend&, auto& one) { one.part.count -= 1; });
  check("gather_record(q): B is not finite",
        [](test::backend& be, auto& one) { fill(be, one.mine.b(), std::nan("")); });
  check("without a start", [](test::backend& be, auto& one) { one.mine.start(be, one.mine.a(), one.mine.b()); });
}
