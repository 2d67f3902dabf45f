#pragma once
#include <algorithm>
#include <cstring>
#include <loraga/distributed/communicator.hpp>
#include <type_traits>

// Before ranks exchange data they tell each other what they are about to do. So a rank that failed, or went another
// way, is noticed by all of them, and nobody waits for ever.

namespace loraga {

namespace detail {

/// What a rank says when it meets the others.
struct rank_message {
  bool failed = false;
  std::string what, details, brings;  // what it does, or what went wrong; lines that must agree; what it tells

  std::string text() const {
    std::string all(1, failed ? '!' : '.');
    for (auto const* part : {&what, &details, &brings}) {
      auto const size = static_cast<std::uint64_t>(part->size());
      all.append(reinterpret_cast<char const*>(&size), sizeof size).append(*part);
    }
    return all;
  }
  /// errors  rank_error for bytes that are no message
  static rank_message parse(std::vector<std::byte> const& bytes) {
    std::string const all(reinterpret_cast<char const*>(bytes.data()), bytes.size());
    rank_message m;
    std::size_t at = 1;
    bool whole = !all.empty() && (all[0] == '!' || all[0] == '.');
    for (auto* part : {&m.what, &m.details, &m.brings}) {
      std::uint64_t size = 0;
      whole = whole && all.size() - at >= sizeof size;
      if (!whole) break;
      std::memcpy(&size, all.data() + at, sizeof size);
      at += sizeof size;
      whole = all.size() - at >= size;
      if (whole) *part = all.substr(at, size);
      at += size;
    }
    if (!whole) throw rank_error("ranks: a message is broken; another program may use this communicator");
    m.failed = all[0] == '!';
    return m;
  }
};

/// The first line in which two texts differ, of both.
inline std::pair<std::string, std::string> first_difference(std::string const& a, std::string const& b) {
  auto const line = [](std::string const& s, std::size_t from) {
    return from < s.size() ? s.substr(from, s.find('\n', from) - from) : std::string("nothing more");
  };
  auto const [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  auto const same = static_cast<std::size_t>(x - a.begin());
  auto const start = same == 0 ? std::string::npos : a.rfind('\n', same - 1);
  auto const from = start == std::string::npos ? 0 : start + 1;
  return {line(a, from), line(b, from)};
}

/// Throws the sentence that all ranks throw, if one failed or is not where the first one is.
inline void require_agreement(std::vector<rank_message> const& all, void const* comm) {
  for (std::size_t r = 0; r < all.size(); ++r)
    if (all[r].failed)
      throw rank_error("rank " + std::to_string(r) + " of " + std::to_string(all.size()) + ": " + all[r].what, comm);
  for (std::size_t r = 1; r < all.size(); ++r) {
    auto [first, other] = std::pair(all[0].what, all[r].what);
    if (first == other) {
      if (all[0].details == all[r].details) continue;
      auto const [x, y] = first_difference(all[0].details, all[r].details);
      first += " with " + x;
      other += " with " + y;
    }
    throw rank_error("ranks: rank " + std::to_string(r) + " is at " + other + ", expected " + first +
                         ", as rank 0: all ranks make the same calls in the same order, for the same layers",
                     comm);
  }
}

template <Backend B, class C>
std::vector<rank_message> meet(B& be, C& comm, rank_message const& mine) {
  auto const text = mine.text();
  std::vector<rank_message> all;
  for (auto const& bytes : comm.all_gather(be, std::as_bytes(std::span(text))))
    all.push_back(rank_message::parse(bytes));
  return all;
}

/// Numbers as text that is exact, and back.
template <class T>
std::string packed(std::vector<T> const& values) {
  return {reinterpret_cast<char const*>(values.data()), values.size() * sizeof(T)};
}
template <class T>
std::vector<T> unpacked(std::string const& text) {
  std::vector<T> values(text.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), text.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace detail

/// All ranks meet: each says what it does, in words and in lines that have to be the same on all, and brings something.
/// returns  what each rank brought, in the order of ranks
/// errors   rank_error, the same on every rank, if one of them failed or says something else
/// cost     one all_gather; waits for the other ranks, not for the backend
template <Backend B, Communicator<B> C>
std::vector<std::string> agree(B& be, C& comm, std::string what, std::string details = {}, std::string brings = {}) {
  auto all = detail::meet(be, comm, {false, std::move(what), std::move(details), std::move(brings)});
  detail::require_agreement(all, &comm);
  std::vector<std::string> brought;
  for (auto& m : all) brought.push_back(std::move(m.brings));
  return brought;
}

namespace detail {
/// How many calls of `together` this thread is in: a rank that leaves one is not taken for one that leaves another.
class depth_of_calls {
  static int& here() {
    thread_local int depth = 0;
    return depth;
  }

 public:
  depth_of_calls() { ++here(); }
  ~depth_of_calls() { --here(); }
  depth_of_calls(depth_of_calls const&) = delete;
  depth_of_calls& operator=(depth_of_calls const&) = delete;
  int count() const { return here(); }
};
}  // namespace detail

/// Calls work() on every rank. Where it throws on one of them, all throw rank_error with that one's words, at the next
/// call that needs them all, or here: so nobody waits for a rank that is gone. Put a whole program's work into one
/// call over all ranks; calls may stand within another, also over groups of them. `what` is what messages call it.
/// returns  what work returns
/// errors   rank_error, the same on every rank
template <Backend B, Communicator<B> C, class F>
auto together(B& be, C& comm, F const& work, std::string const& what = "`together`") -> std::invoke_result_t<F> {
  detail::depth_of_calls const depth;
  auto const end =
      "the end of " + what + (depth.count() > 1 ? " inside of " + std::to_string(depth.count() - 1) + " more" : "");
  auto const tell = [&](std::string const& words) {
    detail::require_agreement(detail::meet(be, comm, {true, words, {}, {}}), &comm);
  };
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
      work();
      agree(be, comm, end);
    } else {
      decltype(auto) result = work();
      agree(be, comm, end);
      return result;
    }
  } catch (rank_error const& failure) {
    if (failure.known_to != &comm) tell(failure.what());  // of another group: these ranks may wait for this one
    throw;
  } catch (std::exception const& failure) {
    tell(failure.what());
    throw;
  } catch (...) {
    tell("an exception that is no std::exception");
    throw;
  }
}

namespace detail {

/// Moves data that all ranks agreed to move. A rank that fails in between leaves the others waiting for data: it ends
/// the job.
template <class C, class F>
void move_data(C& comm, F const& move) {
  auto const end = [&](std::string const& words) {
    comm.abort("rank " + std::to_string(comm.rank()) + " of " + std::to_string(comm.size()) + ": " + words +
               ", while the others waited for its data");
  };
  try {
    move();
  } catch (rank_error const&) {
    throw;
  } catch (std::exception const& failure) {
    end(failure.what());
    throw;
  } catch (...) {
    end("an exception that is no std::exception");
    throw;
  }
}

/// A number that tells two arrays of bytes apart (FNV-1a), to compare what ranks hold.
inline std::uint64_t digest(std::span<std::byte const> bytes) {
  std::uint64_t sum = 0xcbf29ce484222325u;
  for (auto const byte : bytes) sum = (sum ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3u;
  return sum;
}

/// A number for an object's fields, so that ranks notice other settings. 0 where its bytes cannot tell: classes that
/// are not trivially copyable, and compilers that cannot clear the padding between fields.
template <class T>
std::uint64_t settings_of([[maybe_unused]] T const& object) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
  if constexpr (std::is_trivially_copyable_v<T>) {
    T copy = object;
    __builtin_clear_padding(&copy);
    std::byte bytes[sizeof(T)];
    std::memcpy(bytes, &copy, sizeof(T));
    return std::is_empty_v<T> ? 0 : digest(bytes);
  }
#endif
#endif
  return 0;
}

/// The name of a type, for messages and to compare what ranks do.
template <class T>
std::string type_name() {
  std::string_view const all = __PRETTY_FUNCTION__;
  auto const first = all.find("T = ") + 4;
  return std::string(all.substr(first, all.find_first_of(";]", first) - first));
}

}  // namespace detail

}  // namespace loraga
