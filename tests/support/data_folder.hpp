#pragma once
#include <cstdlib>
#include <string>

namespace test {

/// Where the tests' data lies: LORAGA_TEST_DATA in the environment, for a program that runs on another machine than it
/// was built on; else the source tree.
inline std::string data_folder() {
  char const* const given = std::getenv("LORAGA_TEST_DATA");
  return given != nullptr && *given != '\0' ? given : LORAGA_TEST_DATA;
}

}  // namespace test
