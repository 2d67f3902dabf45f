#pragma once
// An assertion without a try block of its own: an exception still fails the test, and a tenth of the time to compile goes.
#define CATCH_CONFIG_FAST_COMPILE
// Catch2 version 3 where there is one, else version 2 (Debian 12).
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
