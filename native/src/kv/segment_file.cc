#include "kv/segment_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "kv/crc32c.h"
#include "kv/kv_counters.h"
#include "kv/store_directory.h"
#include "longshadow/error.h"

namespace longshadow {
namespace {

[[noreturn]] void Lost(const SegmentSpec& spec, const std::string& what) {
  throw Error(ErrorCode::kDataLoss, "segment " + SegmentFileName(spec) + ": " + what);
}

/// Opens a finished file and checks that it is a regular one, ours alone, of the right length.
UniqueFd OpenFinished(int folder_fd, const SegmentSpec& spec, std::int64_t length) {
  UniqueFd fd(openat(folder_fd, SegmentFileName(spec).c_str(),
                     O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    if (errno == ENOENT) Lost(spec, "the file is gone");
    if (errno == ELOOP) Lost(spec, "the file is a symbolic link");
    ThrowErrno("cannot open segment " + SegmentFileName(spec), errno);
  }
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) ThrowErrno("cannot read a segment's length", errno);
  if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
    Lost(spec, "not a file that only we can open");
  }
  if (status.st_size != length) {
    Lost(spec,
         "has " + std::to_string(status.st_size) + " bytes instead of " + std::to_string(length));
  }
  return fd;
}

}  // namespace

FileMapping::FileMapping(int fd, std::int64_t bytes, int protection, const std::string& file_name)
    : bytes_(bytes) {
  void* data = mmap(nullptr, static_cast<std::size_t>(bytes), protection, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) ThrowErrno("cannot map segment " + file_name, errno);
  data_ = static_cast<std::byte*>(data);
  ProcessKvCounters().mappings += 1;
  ProcessKvCounters().mapped_bytes += bytes_;
}

FileMapping::FileMapping(FileMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}

FileMapping::~FileMapping() {
  if (data_ == nullptr) return;
  munmap(data_, static_cast<std::size_t>(bytes_));
  ProcessKvCounters().mappings -= 1;
  ProcessKvCounters().mapped_bytes -= bytes_;
}

SegmentFile::SegmentFile(SegmentSpec spec, FileMapping mapping, bool verified)
    : spec_(std::move(spec)),
      mapping_(std::move(mapping)),
      verified_planes_(static_cast<std::size_t>(spec_.Planes()), verified),
      verified_layers_(static_cast<std::size_t>(spec_.geometry.layers), verified) {}

SegmentFile SegmentFile::Open(int folder_fd, const SegmentSpec& spec) {
  const SegmentHeader expected = ExpectedHeader(spec);
  const UniqueFd fd = OpenFinished(folder_fd, spec, expected.file_length);
  SegmentFile file(
      spec, FileMapping(fd.get(), expected.file_length, PROT_READ, SegmentFileName(spec)), false);
  CheckHeader(file.header(), spec);
  const std::span table(file.mapping_.data() + expected.table_offset,
                        static_cast<std::size_t>(spec.Planes()) * sizeof(std::uint32_t));
  if (Crc32c(table) != file.header().table_crc) Lost(spec, "the checksum table is damaged");
  if (spec.kind == SegmentKind::kKeys &&
      Crc32c(std::as_bytes(file.last_hidden())) != file.header().last_hidden_crc) {
    Lost(spec, "the last hidden row is damaged");
  }
  return file;
}

const SegmentHeader& SegmentFile::header() const {
  return *reinterpret_cast<const SegmentHeader*>(mapping_.data());
}

std::byte* SegmentFile::Page(std::int64_t page) const {
  return mapping_.data() + header().data_offset + page * spec_.geometry.PageBytes();
}

std::span<const float> SegmentFile::last_hidden() const {
  if (spec_.kind == SegmentKind::kValues) return {};
  return {reinterpret_cast<const float*>(mapping_.data() + header().last_hidden_offset),
          static_cast<std::size_t>(spec_.hidden_size)};
}

void SegmentFile::VerifyLayer(std::int32_t layer, const CancellationFlag& cancellation) {
  const auto index = static_cast<std::size_t>(layer);
  if (verified_layers_.at(index)) return;
  for (std::int64_t page = 0; page < spec_.Pages(); ++page) {
    cancellation.ThrowIfCancelled();
    VerifyPlanes(page, layer);
  }
  verified_layers_[index] = true;
}

void SegmentFile::VerifyPage(std::int64_t page) {
  for (std::int32_t layer = 0; layer < spec_.geometry.layers; ++layer) VerifyPlanes(page, layer);
}

void SegmentFile::VerifyPlanes(std::int64_t page, std::int32_t layer) {
  const KvGeometry& geometry = spec_.geometry;
  const auto* table =
      reinterpret_cast<const std::uint32_t*>(mapping_.data() + header().table_offset);
  for (std::int32_t head = 0; head < geometry.kv_heads; ++head) {
    const auto plane =
        static_cast<std::size_t>((page * geometry.layers + layer) * geometry.kv_heads + head);
    if (verified_planes_[plane]) continue;
    const std::span bytes(Page(page) + geometry.PlaneOffset(layer, head),
                          static_cast<std::size_t>(geometry.PlaneBytes()));
    if (Crc32c(bytes) != table[plane]) {
      Lost(spec_, "page " + std::to_string(page) + ", layer " + std::to_string(layer) +
                      ", kv head " + std::to_string(head) + " is damaged");
    }
    verified_planes_[plane] = true;
  }
}

}  // namespace longshadow
