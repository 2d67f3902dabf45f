#pragma once
#ifndef _WIN32
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>

// What io/file.hpp asks of the system, on POSIX; io/file_windows.hpp answers the same. Functions that can fail return 0
// or an errno.

namespace loraga::detail {

/// The file's bytes, mapped for reading; nothing for an empty one.
inline int map_whole_file(std::filesystem::path const& path, std::span<std::byte const>& bytes) {
  int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  struct stat facts {};
  int failure = ::fstat(fd, &facts) < 0 ? errno : S_ISREG(facts.st_mode) ? 0 : S_ISDIR(facts.st_mode) ? EISDIR : EINVAL;
  if (failure == 0 && facts.st_size > 0) {
    auto const size = static_cast<std::size_t>(facts.st_size);
    void* const p = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) failure = errno;
    else bytes = {static_cast<std::byte const*>(p), size};
  }
  ::close(fd);
  return failure;
}

inline void unmap_file(std::span<std::byte const> bytes) noexcept {
  ::munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
}

/// Lets the pages of `part`, which is in `bytes`, leave memory.
inline void forget_pages(std::span<std::byte const> bytes, std::span<std::byte const> part) {
  auto const page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  auto const first = static_cast<std::size_t>(part.data() - bytes.data()) / page * page;
  auto const last = static_cast<std::size_t>(part.data() - bytes.data()) + part.size();
  ::madvise(const_cast<std::byte*>(bytes.data()) + first, last - first, MADV_DONTNEED);
}

/// Creates a file of a new name beside `path`, to be written through `fd`.
inline int create_beside(std::filesystem::path const& path, std::filesystem::path& temporary, int& fd) {
  std::string name = path.string() + ".XXXXXX";
#ifdef __linux__
  fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) return errno;
#else
  fd = ::mkstemp(name.data());
  if (fd < 0) return errno;
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
#endif
  mode_t const mask = ::umask(0);  // mkostemp made it private
  ::umask(mask);
  ::fchmod(fd, 0666 & ~mask);
  temporary = name;
  return 0;
}

/// Writes the beginning of `bytes` at `offset`. `written` is how much of it.
inline int write_some(int fd, std::uint64_t offset, std::span<std::byte const> bytes, std::size_t& written) {
  constexpr std::size_t piece = std::size_t{8} << 20;
  written = 0;
  ssize_t const n = ::pwrite(fd, bytes.data(), std::min(bytes.size(), piece), static_cast<off_t>(offset));
  if (n < 0 && errno == EINTR) return 0;
  if (n <= 0) return n < 0 ? errno : EIO;
#ifdef __linux__
  // On its way to the disk while the next piece is copied; a failure shows in flush_to_disk.
  if (n >= static_cast<ssize_t>(piece / 8))
    ::sync_file_range(fd, static_cast<off64_t>(offset), n, SYNC_FILE_RANGE_WRITE);
#endif
  written = static_cast<std::size_t>(n);
  return 0;
}

inline int flush_to_disk(int fd) { return ::fsync(fd) < 0 ? errno : 0; }
inline void close_file(int fd) noexcept { ::close(fd); }

/// Gives a written file its own name, durably.
inline int put_in_place(std::filesystem::path const& temporary, std::filesystem::path const& path, bool replaces) {
  // A link, unlike a rename, replaces nothing that came meanwhile. Some file systems have none.
  bool const linked = !replaces && ::link(temporary.c_str(), path.c_str()) == 0;
  if (!replaces && !linked && errno == EEXIST) return EEXIST;
  if (linked) ::unlink(temporary.c_str());
  else if (std::rename(temporary.c_str(), path.c_str()) < 0) return errno;
  auto const folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  int const fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return 0;
  ::fsync(fd);
  ::close(fd);
  return 0;
}

}  // namespace loraga::detail
#endif
