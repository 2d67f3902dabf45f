#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <loraga/io/rank_checkpoint.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "../support/ranks.hpp"

using namespace loraga;
using test::backend, test::communicator;

namespace {

/// What a rank holds: numbers that all have, and an estimate of its own.
struct rank_state {
  backend be = test::make_backend(1);
  matrix<float, backend> same = test::upload<float>(be, test::random(5, 3, 1));
  dense_gradient<backend> own{be, 4, 6};
  index_t step = 0;
  auto items() {
    return [this](auto& c) {
      c("same", same.view());
      c("step", step);
    };
  }
  auto parts() {
    return [this](auto& c) { c("gradient", own); };
  }
  void add(std::uint64_t seed) {
    own.add(be, test::upload<float>(be, test::random(4, 6, seed)).view(), 1 + 0.5 * static_cast<double>(seed));
  }
  std::vector<double> numbers() {
    std::vector<double> values{own.weight(), static_cast<double>(own.count()), static_cast<double>(step)};
    test::append(be, values, own.sum());
    test::append(be, values, same.view());
    return values;
  }
};

/// Saves as `ranks` ranks after `step` steps.
void save_ranks(std::filesystem::path const& path, int ranks, index_t step) {
  loopback_group(ranks).run([&](communicator& comm) {
    rank_state s;
    s.step = step;
    s.add(static_cast<std::uint64_t>(comm.rank()) + 10 * static_cast<std::uint64_t>(step));
    save_rank_checkpoint(s.be, comm, path, s.items(), s.parts());
  });
}

std::vector<test::outcome> load_ranks(std::filesystem::path const& path, int ranks) {
  return test::on_ranks(ranks, [&](backend&, communicator& comm) {
    rank_state s;
    load_rank_checkpoint(s.be, comm, path, s.items(), s.parts());
    return s.numbers();
  });
}

}  // namespace

TEST_CASE("ranks go on from their checkpoint", "[io][distributed]") {
  test::folder const folder;
  auto const path = folder / "state.safetensors";
  save_ranks(path, 3, 1);
  save_ranks(path, 3, 2);  // takes the place of the first, with its parts
  CHECK(folder.count() == 4);
  auto const all = load_ranks(path, 3);
  for (int r = 0; r < 3; ++r) {
    auto const& rank = all[static_cast<std::size_t>(r)];
    INFO(rank.error);
    REQUIRE(rank.error.empty());
    rank_state expected;
    expected.step = 2;
    expected.add(static_cast<std::uint64_t>(r) + 20);
    CHECK(rank.values == expected.numbers());
  }
}

TEST_CASE("another number of ranks is refused by name, or joins the parts", "[io][distributed]") {
  test::folder const folder;
  auto const path = folder / "state.safetensors";
  save_ranks(path, 4, 1);
  rank_state total;
  for (std::uint64_t r = 0; r < 4; ++r) total.add(r + 10);
  for (int const ranks : {1, 2, 3, 7}) {
    for (auto const& rank : load_ranks(path, ranks)) {
      CHECK(rank.error.find("ranks is 4 in the file, expected " + std::to_string(ranks)) != std::string::npos);
      CHECK(rank.error.starts_with("rank 0 of " + std::to_string(ranks)));
    }
    auto const joined = test::on_ranks(ranks, [&](backend&, communicator& comm) {
      rank_state s;
      load_rank_checkpoint(s.be, comm, path, s.items(), s.parts(), [&](auto const& read) {
        rank_state other;
        read(other.parts());
        s.own.merge(s.be, other.own);
      });
      combine(s.be, comm, std::span(&s.own, 1));
      s.step = 0;
      return s.numbers();
    });
    auto const expected = total.numbers();
    for (auto const& rank : joined) {
      INFO(ranks << " ranks: " << rank.error);
      REQUIRE(rank.values.size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) CHECK(rank.values[i] == Approx(expected[i]).margin(1e-5));
    }
  }
}

TEST_CASE("what is the same on all ranks is a checkpoint of one process, too", "[io][distributed]") {
  test::folder const folder;
  auto const path = folder / "state.safetensors";
  loopback_group(3).run([&](communicator& comm) {
    rank_state s;
    s.step = 5;
    save_rank_checkpoint(s.be, comm, path, s.items());
  });
  rank_state one;
  load_checkpoint(one.be, path, one.items());
  CHECK(one.step == 5);
  for (int const ranks : {1, 4})
    for (auto const& rank : test::on_ranks(ranks, [&](backend&, communicator& comm) {
           rank_state s;
           load_rank_checkpoint(s.be, comm, path, s.items());
           return std::vector<double>{static_cast<double>(s.step)};
         }))
      CHECK(rank.values == std::vector<double>{5});
}

TEST_CASE("a fault on one rank leaves all as they were, and the file before whole", "[io][distributed]") {
  test::folder const folder;
  auto const path = folder / "state.safetensors";
  save_ranks(path, 3, 1);
  auto const before = test::read_file(path);
  auto const count = folder.count();
  SECTION("one cannot write its part") {
    auto const all = test::on_ranks(3, [&](backend&, communicator& comm) {
      rank_state s;
      s.add(99);
      save_rank_checkpoint(s.be, comm, path, s.items(), [&](auto& c) {
        if (comm.rank() == 1) throw std::runtime_error("no room");
        s.parts()(c);
      });
      return std::vector<double>{};
    });
    for (auto const& rank : all) CHECK(rank.error == "rank 1 of 3: no room");
  }
  SECTION("the first cannot write the file of all") {
    auto const all = test::on_ranks(3, [&](backend&, communicator& comm) {
      rank_state s;
      s.add(99);
      save_rank_checkpoint(
          s.be, comm, path,
          [&](auto& c) {
            s.items()(c);
            throw std::runtime_error("no room");
          },
          s.parts());
      return std::vector<double>{};
    });
    for (auto const& rank : all) CHECK(rank.error == "rank 0 of 3: no room");
  }
  SECTION("a part is missing") {
    std::filesystem::remove(folder / "state.safetensors.g1.rank2-of-3");
    for (auto const& rank : load_ranks(path, 3)) {
      CHECK(rank.error.starts_with("rank 2 of 3"));
      CHECK(rank.error.find("g1.rank2-of-3") != std::string::npos);
    }
    return;
  }
  SECTION("one sees another file") {
    for (index_t const step : {1, 2})
      loopback_group(3).run([&](communicator& comm) {
        rank_state s;
        s.step = step;
        save_rank_checkpoint(s.be, comm, folder / ("step" + std::to_string(step)), s.items());
      });
    auto const all = test::on_ranks(3, [&](backend&, communicator& comm) {
      rank_state s;
      s.step = 77;
      try {
        load_rank_checkpoint(s.be, comm, folder / (comm.rank() == 2 ? "step2" : "step1"), s.items());
      } catch (rank_error const&) {
        return std::vector<double>{static_cast<double>(s.step)};
      }
      return std::vector<double>{};
    });
    for (auto const& rank : all) CHECK(rank.values == std::vector<double>{77});
    return;
  }
  CHECK(test::read_file(path) == before);
  CHECK(folder.count() >= count);
  auto const loaded = load_ranks(path, 3);
  for (std::size_t r = 0; r < loaded.size(); ++r) {
    REQUIRE(loaded[r].error.empty());
    CHECK(loaded[r].values[0] == 1 + 0.5 * (static_cast<double>(r) + 10));  // as they were saved
  }
  save_ranks(path, 3, 2);  // clears away what was left
  CHECK(folder.count() == count);
}

TEST_CASE("a rank that writes elsewhere is noticed before the checkpoint counts", "[io][distributed]") {
  test::folder const folder;
  auto const path = folder / "state.safetensors";
  save_ranks(path, 2, 1);
  std::filesystem::create_directory(folder / "node1");
  auto const all = test::on_ranks(2, [&](backend&, communicator& comm) {
    rank_state s;
    save_rank_checkpoint(s.be, comm, comm.rank() == 1 ? folder / "node1" / "state.safetensors" : path, s.items(),
                         s.parts());
    return std::vector<double>{};
  });
  for (auto const& rank : all) CHECK(rank.error.find("node1") != std::string::npos);
  for (auto const& rank : load_ranks(path, 2)) CHECK(rank.error.empty());
}

TEST_CASE("files of others stay, what was left half-written goes, a broken file is written over", "[io][distributed]") {
  test::folder const folder;
  auto const path = folder / "m";
  for (char const* name : {"m.g7.ranking.csv", "m.g2", "m.g3.rank0-of-2.bak", "m.g4.rank1-of-x", "mm.g1.rank0-of-2"})
    test::write_file(folder / name, "mine");
  for (char const* name : {"m.g1.rank2-of-4", "m.g5.rank0-of-2", "m.g5.rank1-of-2.AbC123"})
    test::write_file(folder / name, "old");
  test::write_file(path, "x");
  save_ranks(path, 2, 1);
  for (auto const& rank : load_ranks(path, 2)) CHECK(rank.error.empty());
  CHECK(folder.count() == 5 + 1 + 2);
  CHECK(test::read_file(folder / "m.g7.ranking.csv") == "mine");
}

TEST_CASE("a file that is not there, or has no parts, is said so", "[io][distributed]") {
  test::folder const folder;
  auto const path = folder / "state.safetensors";
  for (auto const& rank : load_ranks(path, 2))
    CHECK(rank.error.find("is not there, expected a file that all ranks see") != std::string::npos);
  loopback_group(2).run([&](communicator& comm) {
    rank_state s;
    save_rank_checkpoint(s.be, comm, path, s.items());
  });
  for (auto const& rank : load_ranks(path, 2))
    CHECK(rank.error.find("the file is one without parts of ranks") != std::string::npos);
}

TEST_CASE("parts to join that are missing are noticed before anything changes", "[io][distributed]") {
  test::folder const folder;
  auto const path = folder / "state.safetensors";
  save_ranks(path, 4, 1);
  std::filesystem::remove(folder / "state.safetensors.g1.rank3-of-4");
  auto const all = test::on_ranks(2, [&](backend&, communicator& comm) {
    rank_state s;
    s.step = 77;
    try {
      load_rank_checkpoint(s.be, comm, path, s.items(), s.parts(), [](auto const&) {});
    } catch (rank_error const&) {
    }
    return std::vector<double>{static_cast<double>(s.step), static_cast<double>(s.own.count())};
  });
  for (auto const& rank : all) CHECK(rank.values == std::vector<double>{77, 0});
}

TEST_CASE("ranks killed at any moment leave a whole checkpoint", "[io][distributed]") {
  test::folder const folder;
  auto const path = folder / "state.safetensors";
  save_ranks(path, 2, 1);
  for (int attempt = 0; attempt < 12; ++attempt) {
    pid_t const child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        for (index_t step = 1; step < 100000; ++step) save_ranks(path, 2, step);
      } catch (...) {
      }
      ::_exit(1);
    }
    ::usleep(static_cast<useconds_t>(3000 + 7919 * attempt % 20000));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    auto const all = load_ranks(path, 2);
    CHECK(all[0].error.empty());
    CHECK(all[1].error.empty());
    CHECK(all[0].values.size() == all[1].values.size());
    for (std::size_t r = 0; r < all.size(); ++r) {  // the file of all and the parts are of one step
      REQUIRE(all[r].values.size() > 2);
      CHECK(all[r].values[2] == all[0].values[2]);
      CHECK(all[r].values[0] == 1 + 0.5 * (static_cast<double>(r) + 10 * all[r].values[2]));
    }
  }
}
