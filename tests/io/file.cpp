#include <loraga/io/file.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <csignal>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

namespace {

std::string text_of(mapped_file const& f) {
  return {reinterpret_cast<char const*>(f.bytes().data()), f.bytes().size()};
}

/// In a child process of which no file may grow past `bytes`: what it returned, or 128 + the signal that ended it.
template <class F>
int with_disk_of(rlim_t bytes, bool deadly, F f) {
  pid_t const child = ::fork();
  if (child == 0) {
    rlimit const limit{bytes, bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::signal(SIGXFSZ, deadly ? SIG_DFL : SIG_IGN);
    int code = 0;
    try {
      f();
    } catch (file_error const& e) {
      code = e.code == EFBIG ? 1 : 2;
    } catch (...) {
      code = 3;
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

TEST_CASE("a file appears whole, under its name, and only when committed", "[io]") {
  test::folder const folder;
  auto const path = folder / "f";
  {
    output_file f(path);
    f.write(3, "def");
    f.write(0, "abc");
    CHECK(!std::filesystem::exists(path));
    f.commit();
  }
  CHECK(text_of(mapped_file(path)) == "abcdef");
  CHECK((std::filesystem::status(path).permissions() & std::filesystem::perms::group_read) !=
        std::filesystem::perms::none);
  {
    output_file f(path, overwrite::yes);
    f.write(0, "new");
  }
  CHECK(text_of(mapped_file(path)) == "abcdef");
  CHECK(folder.count() == 1);  // no temporary file is left
}

TEST_CASE("nothing is overwritten unless asked", "[io]") {
  test::folder const folder;
  test::write_file(folder / "f", "old");
  CHECK_THROWS_AS(output_file(folder / "f"), file_error);
  CHECK_THROWS_WITH(output_file(folder / "f"), Catch::Contains("File exists"));
  output_file late(folder / "g");
  late.write(0, "new");
  test::write_file(folder / "g", "came meanwhile");
  CHECK_THROWS_AS(late.commit(), file_error);
  CHECK(test::read_file(folder / "g") == "came meanwhile");
  output_file f(folder / "f", overwrite::yes);
  f.write(0, "new");
  f.commit();
  CHECK(test::read_file(folder / "f") == "new");
  std::filesystem::create_directory(folder / "d");
  CHECK_THROWS_AS(output_file(folder / "d", overwrite::yes), file_error);
}

TEST_CASE("a full disk is an error and leaves the old file", "[io]") {
  test::folder const folder;
  test::write_file(folder / "f", "old");
  std::string const text(10000, 'x');
  auto const write = [&] {
    output_file f(folder / "f", overwrite::yes);
    f.write(0, text);
    f.commit();
  };
  CHECK(with_disk_of(5000, false, write) == 1);
  CHECK(test::read_file(folder / "f") == "old");
  CHECK(folder.count() == 1);
  CHECK(with_disk_of(10000, false, write) == 0);
  CHECK(test::read_file(folder / "f") == text);
}

TEST_CASE("a process that dies while it writes leaves the old file", "[io]") {
  test::folder const folder;
  test::write_file(folder / "f", "old");
  for (rlim_t const at : {0, 1, 4999, 9999})
    CHECK(with_disk_of(at, true, [&] {
            output_file f(folder / "f", overwrite::yes);
            f.write(0, std::string(5000, 'x'));
            f.write(5000, std::string(5000, 'x'));
            f.commit();
          }) == 128 + SIGXFSZ);
  CHECK(test::read_file(folder / "f") == "old");
}

TEST_CASE("no permission is an error and leaves the old file", "[io]") {
  test::folder const folder;
  test::write_file(folder / "f", "old");
  std::filesystem::permissions(folder.path, std::filesystem::perms(0555));
  bool const root = ::geteuid() == 0;  // whom permissions do not bind
  if (root) REQUIRE(::seteuid(65534) == 0);
  auto const said = test::message_of([&] { output_file(folder / "f", overwrite::yes); });
  if (root) REQUIRE(::seteuid(0) == 0);
  std::filesystem::permissions(folder.path, std::filesystem::perms(0755));
  CHECK_THAT(said, Catch::Contains("Permission denied"));
  CHECK(test::read_file(folder / "f") == "old");
}

TEST_CASE("what cannot be mapped is named", "[io]") {
  test::folder const folder;
  CHECK_THROWS_WITH(mapped_file(folder / "missing"), Catch::Contains("missing") && Catch::Contains("No such file"));
  CHECK_THROWS_AS(mapped_file(folder.path), file_error);
  test::write_file(folder / "empty", "");
  CHECK_THROWS_AS(make_folder(folder / "empty" / "below"), file_error);
  CHECK(mapped_file(folder / "empty").bytes().empty());
}
