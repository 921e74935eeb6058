#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kv/crc32c.h"
#include "kv/segment_file.h"
#include "kv/store_directory.h"
#include "longshadow/error.h"

namespace longshadow {
namespace {

/// Space is taken in pieces of this size, so that a cancelled chunk stops within milliseconds.
constexpr std::int64_t kReservePiece = std::int64_t{64} << 20;

/// Unique in this process and, by the process id, among the living ones.
std::string TemporaryName(const std::string& final_name) {
  static std::atomic<std::uint64_t> counter{0};
  return final_name + ".tmp-" + std::to_string(getpid()) + "-" + std::to_string(++counter);
}

[[noreturn]] void Full(const std::string& name, std::int64_t wanted, std::int64_t free_bytes) {
  throw Error(ErrorCode::kValueStoreFull, "the value store is full: segment " + name + " wants " +
                                              std::to_string(wanted) + " bytes, " +
                                              std::to_string(free_bytes) +
                                              " are free; release sessions or enlarge the store");
}

std::int64_t FreeBytes(int fd) {
  struct statvfs file_system {};
  if (fstatvfs(fd, &file_system) != 0)
    ThrowErrno("cannot read the value store's free space", errno);
  return static_cast<std::int64_t>(file_system.f_bavail) *
         static_cast<std::int64_t>(file_system.f_frsize);
}

}  // namespace

SegmentWriter::SegmentWriter(int folder_fd, SegmentSpec spec, const CancellationFlag& cancellation)
    : folder_fd_(folder_fd),
      spec_(std::move(spec)),
      header_(ExpectedHeader(spec_)),
      final_name_(SegmentFileName(spec_)),
      temporary_name_(TemporaryName(final_name_)) {
  fd_ = UniqueFd(openat(folder_fd, temporary_name_.c_str(),
                        O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd_.valid()) {
    if (errno == ENOSPC || errno == EDQUOT) {
      Full(final_name_, header_.file_length, FreeBytes(folder_fd));
    }
    ThrowErrno("cannot create segment " + final_name_, errno);
  }
  try {
    Reserve(cancellation);
    mapping_ = std::make_unique<FileMapping>(fd_.get(), header_.file_length, PROT_READ | PROT_WRITE,
                                             final_name_);
  } catch (...) {
    unlinkat(folder_fd_, temporary_name_.c_str(), 0);
    throw;
  }
}

SegmentWriter::~SegmentWriter() {
  if (!published_) unlinkat(folder_fd_, temporary_name_.c_str(), 0);
}

void SegmentWriter::Reserve(const CancellationFlag& cancellation) {
  const std::int64_t wanted = header_.file_length;
  // Asked first: filling a store to the brim before failing would starve its other users.
  if (FreeBytes(fd_.get()) < wanted) Full(final_name_, wanted, FreeBytes(fd_.get()));
  for (std::int64_t offset = 0; offset < wanted; offset += kReservePiece) {
    cancellation.ThrowIfCancelled();
    const std::int64_t bytes = std::min(kReservePiece, wanted - offset);
    int error = EINTR;
    while (error == EINTR) error = posix_fallocate(fd_.get(), offset, bytes);
    if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
      Full(final_name_, wanted, FreeBytes(fd_.get()));
    }
    if (error != 0) ThrowErrno("cannot take space for segment " + final_name_, error);
  }
}

std::byte* SegmentWriter::Page(std::int64_t page) const {
  return mapping_->data() + header_.data_offset + page * spec_.geometry.PageBytes();
}

void SegmentWriter::Complete(std::span<const float> last_hidden,
                             const CancellationFlag& cancellation) {
  const KvGeometry& geometry = spec_.geometry;
  auto* table = reinterpret_cast<std::uint32_t*>(mapping_->data() + header_.table_offset);
  const auto plane_bytes = static_cast<std::size_t>(geometry.PlaneBytes());
  std::int64_t plane = 0;
  for (std::int64_t page = 0; page < spec_.Pages(); ++page) {
    cancellation.ThrowIfCancelled();
    const std::int64_t page_planes = std::int64_t{geometry.layers} * geometry.kv_heads;
    for (std::int64_t i = 0; i < page_planes; ++i) {
      table[plane++] = Crc32c({Page(page) + i * geometry.PlaneBytes(), plane_bytes});
    }
  }
  header_.table_crc = Crc32c(std::as_bytes(std::span(table, static_cast<std::size_t>(plane))));
  if (spec_.kind == SegmentKind::kKeys) {
    const auto row = std::as_bytes(last_hidden);
    std::memcpy(mapping_->data() + header_.last_hidden_offset, row.data(), row.size());
    header_.last_hidden_crc = Crc32c(row);
  }
  header_.header_crc = HeaderCrc(header_);
  std::memcpy(mapping_->data(), &header_, sizeof(header_));
  if (msync(mapping_->data(), static_cast<std::size_t>(header_.data_offset), MS_SYNC) != 0) {
    ThrowErrno("cannot write the header of segment " + final_name_, errno);
  }
  if (mprotect(mapping_->data(), static_cast<std::size_t>(header_.file_length), PROT_READ) != 0) {
    ThrowErrno("cannot protect segment " + final_name_, errno);
  }
}

void SegmentWriter::Publish() {
  if (renameat2(folder_fd_, temporary_name_.c_str(), folder_fd_, final_name_.c_str(),
                RENAME_NOREPLACE) != 0) {
    ThrowErrno("cannot name segment " + final_name_, errno);
  }
  published_ = true;
}

void SegmentWriter::Unpublish() { unlinkat(folder_fd_, final_name_.c_str(), 0); }

SegmentFile SegmentWriter::TakeFile() && { return {spec_, std::move(*mapping_), true}; }

}  // namespace longshadow
