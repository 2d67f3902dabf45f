#include <algorithm>

#include "bookkeeping.hpp"

// Which bytes a call reads and writes, and whether it may.

namespace device_double {

strided::strided(char const* n, void const* p, std::int64_t rows, std::int64_t cols, std::int64_t ld,
                 std::size_t element)
    : name(n),
      data(reinterpret_cast<std::uintptr_t>(p)),
      width(static_cast<std::size_t>(std::max<std::int64_t>(rows, 0)) * element),
      count(static_cast<std::size_t>(std::max<std::int64_t>(cols, 0))),
      pitch(static_cast<std::size_t>(ld) * element) {}

bool strided::overlaps(strided const& other) const {
  if (empty() || other.empty() || data + span() <= other.data || other.data + other.span() <= data) return false;
  for (std::size_t i = 0; i < count; ++i) {
    std::uintptr_t const mine = data + i * pitch;
    // Of the other's pieces the last one that starts before mine, and the one after it.
    std::size_t const before = mine > other.data ? (mine - other.data) / std::max<std::size_t>(other.pitch, 1) : 0;
    for (std::size_t j = before; j < std::min(before + 2, other.count); ++j) {
      std::uintptr_t const theirs = other.data + j * other.pitch;
      if (mine < theirs + other.width && theirs < mine + width) return true;
    }
  }
  return false;
}

bool operands::good(bool later) const {
  bool all = true;
  auto const located = [&](strided const& s) {
    if (s.empty()) return;
    if (s.data % alignment_ != 0) {
      complain(std::string(s.name) + " does not begin on " + std::to_string(alignment_) + " bytes");
      all = false;
    }
    if (later ? still_there(s.pointer(), s.span()) : inside(where::device, s.pointer(), s.span())) return;
    complain(std::string(s.name) + " is not in one live device allocation (" + std::to_string(s.span()) + " bytes)" +
             (later ? ", now that the work runs" : ""));
    all = false;
  };
  auto const apart = [&](strided const& s, strided const& other) {
    if (!s.overlaps(other)) return;
    complain(std::string(s.name) + " is written and overlaps " + other.name);
    all = false;
  };
  for (strided const& s : read_) located(s);
  for (strided const& s : written_) located(s);
  for (std::size_t i = 0; i < written_.size(); ++i) {
    for (strided const& s : read_) apart(written_[i], s);
    for (std::size_t j = 0; j < i; ++j) apart(written_[i], written_[j]);
  }
  return all;
}

}  // namespace device_double
