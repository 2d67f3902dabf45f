#pragma once
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#include <share.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <filesystem>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <system_error>
#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

// What io/file.hpp asks of the system, on Windows; io/file_posix.hpp answers the same. Functions that can fail return 0
// or an errno. The system may refuse to replace a file while it is mapped: an error (EACCES) that leaves it as it was.

namespace loraga::detail {

/// The file's bytes, mapped for reading; nothing for an empty one.
inline int map_whole_file(std::filesystem::path const& path, std::span<std::byte const>& bytes) {
  std::error_code unknown;
  if (std::filesystem::is_directory(path, unknown)) return EISDIR;  // the C runtime says EACCES
  int fd = -1;
  if (int const failure = ::_wsopen_s(&fd, path.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT, _SH_DENYNO, _S_IREAD))
    return failure;
  int failure = 0;
  auto const size = ::_filelengthi64(fd);
  if (size < 0) failure = errno;
  else if (static_cast<std::uint64_t>(size) > std::numeric_limits<std::size_t>::max()) failure = EFBIG;
  else if (size > 0) {
    auto const file = reinterpret_cast<HANDLE>(::_get_osfhandle(fd));
    HANDLE const mapping = ::CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr);
    // A file cut meanwhile would map less than `size`: asked for by its size, the view is refused instead.
    void const* const p =
        mapping ? ::MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, static_cast<std::size_t>(size)) : nullptr;
    if (p) bytes = {static_cast<std::byte const*>(p), static_cast<std::size_t>(size)};
    else failure = ::GetLastError() == ERROR_NOT_ENOUGH_MEMORY ? ENOMEM : EIO;
    if (mapping) ::CloseHandle(mapping);  // the view holds it
  }
  ::_close(fd);
  return failure;
}

inline void unmap_file(std::span<std::byte const> bytes) noexcept { ::UnmapViewOfFile(bytes.data()); }

/// Lets the pages of `part`, which is in `bytes`, leave memory.
inline void forget_pages(std::span<std::byte const>, std::span<std::byte const> part) {
  // Unlocking what is not locked takes it out of the working set, and says by its result that it was not locked.
  ::VirtualUnlock(const_cast<std::byte*>(part.data()), part.size());
}

/// Creates a file of a new name beside `path`, to be written through `fd`.
inline int create_beside(std::filesystem::path const& path, std::filesystem::path& temporary, int& fd) {
  std::random_device random;
  int failure = EEXIST;
  for (int attempt = 0; attempt < 100 && failure == EEXIST; ++attempt) {
    temporary = path;
    temporary += L"." + std::to_wstring(random());
    failure = ::_wsopen_s(&fd, temporary.c_str(), _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT, _SH_DENYWR,
                          _S_IREAD | _S_IWRITE);
  }
  return failure;
}

/// Writes the beginning of `bytes` at `offset`. `written` is how much of it.
inline int write_some(int fd, std::uint64_t offset, std::span<std::byte const> bytes, std::size_t& written) {
  constexpr std::size_t piece = std::size_t{8} << 20;
  written = 0;
  if (::_lseeki64(fd, static_cast<long long>(offset), SEEK_SET) < 0) return errno;
  int const n = ::_write(fd, bytes.data(), static_cast<unsigned>(std::min(bytes.size(), piece)));
  if (n <= 0) return n < 0 ? errno : EIO;
  written = static_cast<std::size_t>(n);
  return 0;
}

inline int flush_to_disk(int fd) { return ::_commit(fd) < 0 ? errno : 0; }
inline void close_file(int fd) noexcept { ::_close(fd); }

/// Gives a written file its own name, durably.
inline int put_in_place(std::filesystem::path const& temporary, std::filesystem::path const& path, bool replaces) {
  DWORD const how = MOVEFILE_WRITE_THROUGH | (replaces ? DWORD{MOVEFILE_REPLACE_EXISTING} : DWORD{0});
  if (::MoveFileExW(temporary.c_str(), path.c_str(), how)) return 0;
  switch (::GetLastError()) {
    case ERROR_ALREADY_EXISTS:
    case ERROR_FILE_EXISTS:
      return EEXIST;
    case ERROR_PATH_NOT_FOUND:
    case ERROR_FILE_NOT_FOUND:
      return ENOENT;
    case ERROR_DISK_FULL:
      return ENOSPC;
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION:
    case ERROR_USER_MAPPED_FILE:
      return EACCES;
    default:
      return EIO;
  }
}

}  // namespace loraga::detail
#endif
