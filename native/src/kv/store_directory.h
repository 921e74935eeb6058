#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kv/unique_fd.h"
#include "longshadow/value_store.h"

namespace longshadow {

/// Throws kIo: "<what>: <text of errno>".
[[noreturn]] void ThrowErrno(const std::string& what, int error_number);

/// Throws kInvalidArgument unless `session_id` matches ^[0-9a-f]{32}$.
void CheckSessionId(const std::string& session_id);

/// Names in a directory, without "." and "..". Throws kIo.
std::vector<std::string> ListDirectory(int directory_fd);

/// The ValueStore of this library. Every path below the directory is opened relative to its
/// descriptor, so a directory that is renamed or replaced later is never followed.
class StoreDirectory final : public ValueStore {
 public:
  explicit StoreDirectory(const std::string& directory);

  const std::string& directory() const override { return path_; }
  ValueStoreStatus Status() const override;
  std::int64_t FreeBytes() const override { return Space().free_bytes; }
  void RemoveSession(const std::string& session_id) override;

  /// Opens a session's folder (0700, ours, not a link: kInvalidArgument otherwise).
  /// When it is absent: made if `create`, else an invalid descriptor is returned.
  UniqueFd OpenSessionFolder(const std::string& session_id, bool create) const;

 private:
  struct FileSystemSpace {
    std::int64_t free_bytes = 0;
    std::int64_t capacity_bytes = 0;
  };
  FileSystemSpace Space() const;

  std::string path_;
  UniqueFd fd_;
};

/// The store as its one implementation. Throws kInvalidArgument for null.
StoreDirectory& AsStoreDirectory(const std::shared_ptr<ValueStore>& store);

}  // namespace longshadow
