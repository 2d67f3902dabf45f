#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <loraga/core/error.hpp>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

// Files as bytes: read through the page cache without copies, and written so that a name always stands for a whole
// file. POSIX.

namespace loraga {

/// Whether a file that is there already may be replaced: `yes`, or `no`.
enum class overwrite { no, yes };

/// Throws file_error with the system's words for errno `code`.
[[noreturn]] inline void raise_file_error(std::string_view where, std::filesystem::path const& path, int code) {
  throw file_error(
      std::string(where) + ": " + path.string() + " is not usable: " + std::generic_category().message(code), code);
}

/// Makes a folder and those above it.  errors  file_error
inline void make_folder(std::filesystem::path const& path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  if (failure) raise_file_error("make_folder", path, failure.value());
}

/// A file mapped for reading. Nothing is read until it is looked at, and the system may forget it again. So files may
/// be larger than memory. The file must not shrink meanwhile.
/// errors  file_error
class mapped_file {
  std::filesystem::path path_;
  std::byte const* data_ = nullptr;
  std::size_t size_ = 0;

 public:
  explicit mapped_file(std::filesystem::path path) : path_(std::move(path)) {
    int const fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) raise_file_error("mapped_file", path_, errno);
    struct stat facts {};
    int failure = ::fstat(fd, &facts) < 0  ? errno
                  : S_ISREG(facts.st_mode) ? 0
                  : S_ISDIR(facts.st_mode) ? EISDIR
                                           : EINVAL;
    if (failure == 0 && facts.st_size > 0) {
      size_ = static_cast<std::size_t>(facts.st_size);
      void* const p = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
      if (p == MAP_FAILED) failure = errno;
      else data_ = static_cast<std::byte const*>(p);
    }
    ::close(fd);
    if (failure != 0) raise_file_error("mapped_file", path_, failure);
  }
  mapped_file(mapped_file&& o) noexcept
      : path_(std::move(o.path_)), data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  mapped_file& operator=(mapped_file&& o) noexcept {
    std::swap(path_, o.path_);
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~mapped_file() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
  }
  std::filesystem::path const& path() const { return path_; }
  /// The whole file.
  std::span<std::byte const> bytes() const { return {data_, size_}; }

  /// The pages of this part may leave memory, which keeps a pass over a large file small. They are read again when
  /// looked at.
  void forget(std::span<std::byte const> part) const {
    if (part.empty()) return;
    auto const page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    auto const first = static_cast<std::size_t>(part.data() - data_) / page * page;
    auto const last = static_cast<std::size_t>(part.data() - data_) + part.size();
    ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
  }
};

/// A file that is being written. It has a temporary name beside its own until `commit` makes it durable and renames it.
/// Until then what stood there stays as it was, and there is no half file. A crash leaves the temporary file.
/// errors  file_error (disk full, no permission, EEXIST unless overwrite::yes)
class output_file {
  std::filesystem::path path_;
  std::string temporary_;
  overwrite may_replace_;
  int fd_ = -1;

 public:
  explicit output_file(std::filesystem::path path, overwrite may_replace = overwrite::no)
      : path_(std::move(path)), temporary_(path_.string() + ".XXXXXX"), may_replace_(may_replace) {
    std::error_code unknown;
    if (may_replace_ == overwrite::no && std::filesystem::exists(std::filesystem::symlink_status(path_, unknown)))
      raise_file_error("output_file", path_, EEXIST);
    if (std::filesystem::is_directory(path_, unknown)) raise_file_error("output_file", path_, EISDIR);
    fd_ = ::mkostemp(temporary_.data(), O_CLOEXEC);
    if (fd_ < 0) raise_file_error("output_file", path_, errno);
    mode_t const mask = ::umask(0);  // mkostemp made it private
    ::umask(mask);
    ::fchmod(fd_, 0666 & ~mask);
  }
  output_file(output_file&& o) noexcept
      : path_(std::move(o.path_)),
        temporary_(std::move(o.temporary_)),
        may_replace_(o.may_replace_),
        fd_(std::exchange(o.fd_, -1)) {}
  output_file& operator=(output_file&&) = delete;
  ~output_file() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(temporary_.c_str());
  }
  std::filesystem::path const& path() const { return path_; }

  /// Bytes at an offset, in any order; what is never written reads as zero.
  void write(std::uint64_t offset, std::span<std::byte const> bytes) {
    constexpr std::size_t piece = std::size_t{8} << 20;
    while (!bytes.empty()) {
      ssize_t const n = ::pwrite(fd_, bytes.data(), std::min(bytes.size(), piece), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) raise_file_error("output_file::write", path_, n < 0 ? errno : EIO);
#ifdef __linux__
      // On its way to the disk while the next piece is copied; a failure shows in commit's fsync.
      if (n >= static_cast<ssize_t>(piece / 8))
        ::sync_file_range(fd_, static_cast<off64_t>(offset), n, SYNC_FILE_RANGE_WRITE);
#endif
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      offset += static_cast<std::uint64_t>(n);
    }
  }
  void write(std::uint64_t offset, std::string_view text) {
    write(offset, std::as_bytes(std::span(text.data(), text.size())));
  }

  /// Puts the file on disk and in its place.
  /// errors  file_error
  void commit() {
    if (::fsync(fd_) < 0) raise_file_error("output_file::commit", path_, errno);
    if (may_replace_ == overwrite::yes) {
      if (::rename(temporary_.c_str(), path_.c_str()) < 0) raise_file_error("output_file::commit", path_, errno);
    } else {
      // A link, unlike a rename, replaces nothing that came meanwhile. Some file systems have none.
      bool const linked = ::link(temporary_.c_str(), path_.c_str()) == 0;
      if (!linked && errno == EEXIST) raise_file_error("output_file::commit", path_, EEXIST);
      if (linked) ::unlink(temporary_.c_str());
      else if (::rename(temporary_.c_str(), path_.c_str()) < 0) raise_file_error("output_file::commit", path_, errno);
    }
    ::close(std::exchange(fd_, -1));
    auto const folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
    int const fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // the name itself becomes durable
    if (fd < 0) return;
    ::fsync(fd);
    ::close(fd);
  }
};

}  // namespace loraga
