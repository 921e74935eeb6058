#include "kv/store_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "kv/kv_counters.h"
#include "longshadow/error.h"

namespace longshadow {
namespace {

constexpr int kFolderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

/// Opens a folder below `at` that must be ours alone; an invalid descriptor when there is none.
UniqueFd OpenOwnFolder(int at, const std::string& name, const std::string& shown) {
  UniqueFd folder(openat(at, name.c_str(), kFolderFlags));
  if (!folder.valid()) {
    if (errno == ENOENT) return folder;
    if (errno == ELOOP || errno == ENOTDIR) {
      throw Error(ErrorCode::kInvalidArgument,
                  shown + " is a symbolic link or not a folder; remove it or choose another one");
    }
    ThrowErrno("cannot open the folder " + shown, errno);
  }
  struct stat status {};
  if (fstat(folder.get(), &status) != 0) ThrowErrno("cannot read the mode of " + shown, errno);
  if (status.st_uid != geteuid()) {
    throw Error(ErrorCode::kInvalidArgument, shown + " belongs to another user");
  }
  if ((status.st_mode & 077) != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                shown + " is open to other users; its mode must be 0700 (chmod 700)");
  }
  return folder;
}

void MakeFolder(int at, const std::string& name, const std::string& shown) {
  if (mkdirat(at, name.c_str(), 0700) == 0 || errno == EEXIST) return;
  if (errno == ENOSPC || errno == EDQUOT) {
    throw Error(ErrorCode::kValueStoreFull, "no room to make the folder " + shown);
  }
  ThrowErrno("cannot make the folder " + shown, errno);
}

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

/// Files with several names, by inode: the store is one file system.
using SharedFiles = std::set<ino_t>;

void AddFiles(int folder_fd, SharedFiles& shared, ValueStoreStatus& status) {
  for (const std::string& name : ListDirectory(folder_fd)) {
    struct stat file {};
    if (fstatat(folder_fd, name.c_str(), &file, AT_SYMLINK_NOFOLLOW) != 0) continue;  // just gone
    if (!S_ISREG(file.st_mode)) continue;
    status.files += 1;
    if (file.st_nlink == 1 || shared.insert(file.st_ino).second) status.file_bytes += file.st_size;
  }
}

}  // namespace

void ThrowErrno(const std::string& what, int error_number) {
  throw Error(ErrorCode::kIo, what + ": " + std::strerror(error_number));
}

void CheckSessionId(const std::string& session_id) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (session_id.size() == 32 && std::all_of(session_id.begin(), session_id.end(), is_digit)) {
    return;
  }
  throw Error(ErrorCode::kInvalidArgument, "a session id must be 32 lower-case hex digits");
}

std::vector<std::string> ListDirectory(int directory_fd) {
  // A descriptor of its own: fdopendir takes it over, and the offset is not shared.
  const int fd = openat(directory_fd, ".", kFolderFlags);
  if (fd < 0) ThrowErrno("cannot list a folder of the value store", errno);
  DIR* stream = fdopendir(fd);
  if (stream == nullptr) {
    close(fd);
    ThrowErrno("cannot list a folder of the value store", errno);
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> owner(stream, closedir);
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  return names;
}

StoreDirectory::StoreDirectory(const std::string& directory)
    : path_(WithoutTrailingSlashes(directory)) {
  if (path_.empty() || path_.find('\0') != std::string::npos) {
    throw Error(ErrorCode::kInvalidArgument, "the value store's directory has no valid name");
  }
  MakeFolder(AT_FDCWD, path_, path_);
  fd_ = OpenOwnFolder(AT_FDCWD, path_, path_);
  if (!fd_.valid()) ThrowErrno("cannot open the folder " + path_, ENOENT);
}

UniqueFd StoreDirectory::OpenSessionFolder(const std::string& session_id, bool create) const {
  CheckSessionId(session_id);
  const std::string shown = path_ + "/" + session_id;
  if (create) MakeFolder(fd_.get(), session_id, shown);
  UniqueFd folder = OpenOwnFolder(fd_.get(), session_id, shown);
  if (create && !folder.valid()) ThrowErrno("cannot open the folder " + shown, ENOENT);
  return folder;
}

ValueStoreStatus StoreDirectory::Status() const {
  ValueStoreStatus status;
  SharedFiles shared;
  for (const std::string& name : ListDirectory(fd_.get())) {
    const UniqueFd folder(openat(fd_.get(), name.c_str(), kFolderFlags));
    if (folder.valid()) AddFiles(folder.get(), shared, status);
  }
  const KvCounters& held = ProcessKvCounters();
  status.mappings = held.mappings;
  status.mapped_bytes = held.mapped_bytes;
  status.private_bytes = held.private_bytes;
  const FileSystemSpace space = Space();
  status.free_bytes = space.free_bytes;
  status.capacity_bytes = space.capacity_bytes;
  return status;
}

StoreDirectory::FileSystemSpace StoreDirectory::Space() const {
  struct statvfs file_system {};
  if (fstatvfs(fd_.get(), &file_system) != 0) ThrowErrno("cannot read the size of " + path_, errno);
  const auto unit = static_cast<std::int64_t>(file_system.f_frsize);
  return {static_cast<std::int64_t>(file_system.f_bavail) * unit,
          static_cast<std::int64_t>(file_system.f_blocks) * unit};
}

void StoreDirectory::RemoveSession(const std::string& session_id) {
  const UniqueFd folder = OpenSessionFolder(session_id, false);
  if (!folder.valid()) return;
  for (const std::string& name : ListDirectory(folder.get())) {
    if (unlinkat(folder.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
      ThrowErrno("cannot remove " + path_ + "/" + session_id + "/" + name, errno);
    }
  }
  if (unlinkat(fd_.get(), session_id.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    ThrowErrno("cannot remove " + path_ + "/" + session_id, errno);
  }
}

StoreDirectory& AsStoreDirectory(const std::shared_ptr<ValueStore>& store) {
  auto* directory = dynamic_cast<StoreDirectory*>(store.get());
  if (directory == nullptr) {
    throw Error(ErrorCode::kInvalidArgument, "a session needs a value store made by Open");
  }
  return *directory;
}

std::shared_ptr<ValueStore> ValueStore::Open(const std::string& directory) {
  return std::make_shared<StoreDirectory>(directory);
}

}  // namespace longshadow
