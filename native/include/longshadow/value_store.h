#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace longshadow {

struct ValueStoreStatus {
  std::int64_t file_bytes = 0;      // bytes of files under the directory (all processes); those of
                                    // a file that sessions share under several names count once
  std::int64_t files = 0;           // names of files under the directory (all processes)
  std::int64_t mappings = 0;        // segment mappings alive in this process
  std::int64_t mapped_bytes = 0;    // their bytes
  std::int64_t private_bytes = 0;   // private KV pages (generated tails) alive in this process
  std::int64_t free_bytes = 0;      // what the file system still gives
  std::int64_t capacity_bytes = 0;  // the file system's size
};

/// The host-memory home of segments: one directory, written by workers and decodes of one user,
/// mapped by both. Layout: `<directory>/<session id>/<epoch>-<stage>-<begin>-<end>.{k,v}`.
class ValueStore {
 public:
  /// Creates the directory (0700) if absent; refuses one that is not ours or is open to others
  /// (kInvalidArgument: owner, mode, not a directory, symbolic link).
  static std::shared_ptr<ValueStore> Open(const std::string& directory);

  virtual ~ValueStore() = default;
  virtual const std::string& directory() const = 0;
  /// Walks every file: for people and tests, not for a heartbeat.
  virtual ValueStoreStatus Status() const = 0;
  /// What the file system still gives, at the cost of one system call.
  virtual std::int64_t FreeBytes() const = 0;
  /// Unlinks every file of a session and its folder; mappings outlive it. Unknown: nothing.
  /// `session_id` must match ^[0-9a-f]{32}$ (kInvalidArgument), checked before any path is made.
  virtual void RemoveSession(const std::string& session_id) = 0;
};

}  // namespace longshadow
