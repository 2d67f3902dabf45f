#pragma once
// The one home of the version number; CMakeLists.txt reads it from here.
#define LORAGA_VERSION_MAJOR 0
#define LORAGA_VERSION_MINOR 2
#define LORAGA_VERSION_PATCH 0
