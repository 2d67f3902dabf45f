#pragma once
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <loraga/core/error.hpp>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#ifdef _WIN32
#include <loraga/io/file_windows.hpp>
#else
#include <loraga/io/file_posix.hpp>
#endif

// Files as bytes: read through the page cache without copies, and written so that a name always stands for a whole
// file.

namespace loraga {

/// Whether a file that is there already may be replaced: `yes`, or `no`.
enum class overwrite { no, yes };

/// Throws file_error with the system's words for errno `code`.
[[noreturn]] inline void raise_file_error(std::string_view where, std::filesystem::path const& path, int code) {
  auto const name = path.u8string();
  throw file_error(std::string(where) + ": " + std::string(name.begin(), name.end()) + " is not usable: " +
                       std::generic_category().message(code) + (code == EEXIST ? "; overwrite::yes replaces it" : ""),
                   code);
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
  std::span<std::byte const> bytes_;

 public:
  explicit mapped_file(std::filesystem::path path) : path_(std::move(path)) {
    if (int const failure = detail::map_whole_file(path_, bytes_)) raise_file_error("mapped_file", path_, failure);
  }
  mapped_file(mapped_file&& o) noexcept : path_(std::move(o.path_)), bytes_(std::exchange(o.bytes_, {})) {}
  mapped_file& operator=(mapped_file&& o) noexcept {
    std::swap(path_, o.path_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~mapped_file() {
    if (!bytes_.empty()) detail::unmap_file(bytes_);
  }
  std::filesystem::path const& path() const { return path_; }
  /// The whole file.
  std::span<std::byte const> bytes() const { return bytes_; }

  /// The pages of this part may leave memory, which keeps a pass over a large file small. They are read again when
  /// looked at.
  void forget(std::span<std::byte const> part) const {
    if (!part.empty()) detail::forget_pages(bytes_, part);
  }
};

/// A file that is being written. It has a temporary name beside its own until `commit` makes it durable and renames it.
/// Until then what stood there stays as it was, and there is no half file. A crash leaves the temporary file.
/// errors  file_error (disk full, no permission, EEXIST unless overwrite::yes)
class output_file {
  std::filesystem::path path_, temporary_;  // the second is empty when there is nothing left to remove
  overwrite may_replace_;
  int fd_ = -1;

 public:
  explicit output_file(std::filesystem::path path, overwrite may_replace = overwrite::no)
      : path_(std::move(path)), may_replace_(may_replace) {
    std::error_code unknown;
    if (may_replace_ == overwrite::no && std::filesystem::exists(std::filesystem::symlink_status(path_, unknown)))
      raise_file_error("output_file", path_, EEXIST);
    if (std::filesystem::is_directory(path_, unknown)) raise_file_error("output_file", path_, EISDIR);
    if (int const failure = detail::create_beside(path_, temporary_, fd_))
      raise_file_error("output_file", path_, failure);
  }
  output_file(output_file&& o) noexcept
      : path_(std::move(o.path_)),
        temporary_(std::exchange(o.temporary_, {})),
        may_replace_(o.may_replace_),
        fd_(std::exchange(o.fd_, -1)) {}
  output_file& operator=(output_file&&) = delete;
  ~output_file() {
    if (fd_ >= 0) detail::close_file(fd_);
    std::error_code gone;
    if (!temporary_.empty()) std::filesystem::remove(temporary_, gone);
  }
  std::filesystem::path const& path() const { return path_; }

  /// Bytes at an offset, in any order; what is never written reads as zero.
  void write(std::uint64_t offset, std::span<std::byte const> bytes) {
    while (!bytes.empty()) {
      std::size_t written = 0;
      if (int const failure = detail::write_some(fd_, offset, bytes, written))
        raise_file_error("output_file::write", path_, failure);
      bytes = bytes.subspan(written);
      offset += written;
    }
  }
  void write(std::uint64_t offset, std::string_view text) {
    write(offset, std::as_bytes(std::span(text.data(), text.size())));
  }

  /// Puts the file on disk and in its place.
  /// errors  file_error
  void commit() {
    int failure = detail::flush_to_disk(fd_);
    if (failure == 0) {
      detail::close_file(std::exchange(fd_, -1));
      failure = detail::put_in_place(temporary_, path_, may_replace_ == overwrite::yes);
    }
    if (failure != 0) raise_file_error("output_file::commit", path_, failure);
    temporary_.clear();
  }
};

}  // namespace loraga
