#pragma once

namespace test {

/// Heap allocations of all threads so far: operator new in all its forms, and malloc called from this program's code.
long allocations();

}  // namespace test
