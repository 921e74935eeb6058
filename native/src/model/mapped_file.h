#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace longshadow {

/// A whole file mapped read-only. Empty files have an empty span and no mapping.
/// The file must not be truncated while it is mapped (the kernel answers with SIGBUS).
class MappedFile {
 public:
  /// Throws kModelInvalid when the file is absent or not a regular file, kIo when the operating
  /// system refuses to open or map it.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

/// True for a path that names a file or a link to one.
bool FileExists(const std::string& path);

}  // namespace longshadow
