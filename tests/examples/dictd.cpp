#include "../../examples/data/dictd.hpp"

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

namespace {

/// A dictionary of these entries, under these headwords, as dictd has it.
void write_dictionary(test::folder const& folder, std::vector<std::pair<std::string, std::string>> const& entries) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  auto const number = [&](std::size_t n) {
    std::string text;
    do text.insert(text.begin(), digits[n % 64]);
    while (n /= 64);
    return text;
  };
  std::string index, dict;
  for (auto const& [word, entry] : entries) {
    index += word + "\t" + number(dict.size()) + "\t" + number(entry.size()) + "\n";
    if (word != "alias") dict += entry;
  }
  test::write_file(folder / "d.index", index);
  test::write_file(folder / "d.dict", dict);
}

std::string const long_text = "that is long enough to be worth learning, and goes on";

}  // namespace

TEST_CASE("a dictd dictionary's definitions are read, without marks, sources and mere references", "[examples]") {
  test::folder folder;
  write_dictionary(folder,
                   {{"00-database-info", "about this dictionary\n"},
                    {"alpha", "Alpha\n\n   <jargon> A {thing}\n   " + long_text + ".\n\n   More.\n\n   (1999-01-02)\n"},
                    {"beta", "beta\n\n   {alpha}\n"},
                    {"gamma", "gamma\n\n   [{Jargon File}]\n\n   Another " + long_text + ".\n"},
                    {"short", "short\n\n   Too short.\n"}});
  auto const all = data::read_dictd(folder / "d.dict");
  REQUIRE(all.size() == 2);
  CHECK(all[0].term == "Alpha");
  CHECK(all[0].text == "A thing " + long_text + ".");
  CHECK(all[1].term == "gamma");
  CHECK(all[1].text == "Another " + long_text + ".");
}

TEST_CASE("what is no dictd dictionary is refused by file and line", "[examples]") {
  test::folder folder;
  auto const says = [&](std::string const& index, std::string const& dict) {
    test::write_file(folder / "d.index", index);
    test::write_file(folder / "d.dict", dict);
    return test::message_of([&] { data::read_dictd(folder / "d.dict"); });
  };
  CHECK(says("word without tabs\n", "x").find("line 1: line is without two tabs") != std::string::npos);
  CHECK(says("a\tA\tB\nb\t*\tB\n", "xx").find("line 2: number is '*'") != std::string::npos);
  CHECK(says("a\tA\tZZZZZZ\n", "x").find("not of one dictionary") != std::string::npos);
  CHECK(says("a\tA\tB\n", "\x1f\x8b packed").find("gunzip") != std::string::npos);
  CHECK(says("a\tA\tB\n", "x").find("no definitions") != std::string::npos);
  std::filesystem::remove(folder / "d.index");
  CHECK_THROWS_AS(data::read_dictd(folder / "d.dict"), file_error);
}
