#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kv/segment_format.h"
#include "kv/unique_fd.h"
#include "longshadow/cancellation.h"

namespace longshadow {

/// A shared mapping of a whole file, counted in ProcessKvCounters().
class FileMapping {
 public:
  /// `protection` as for mmap. Throws kIo.
  FileMapping(int fd, std::int64_t bytes, int protection, const std::string& file_name);
  ~FileMapping();
  FileMapping(FileMapping&& other) noexcept;
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;
  FileMapping& operator=(FileMapping&&) = delete;

  std::byte* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

/// A finished segment file, mapped read-only. Planes are checked at first touch.
class SegmentFile {
 public:
  /// Maps and checks the header, the table and the last hidden row; not the planes.
  /// Throws kDataLoss when the file is absent, is not ours alone, or does not match `spec`.
  static SegmentFile Open(int folder_fd, const SegmentSpec& spec);
  /// Takes over the mapping of a file this process has just written; its planes count as checked.
  SegmentFile(SegmentSpec spec, FileMapping mapping, bool verified);

  std::int64_t bytes() const { return mapping_.bytes(); }
  /// Names these very bytes: it covers the CRC of the table, which covers every plane's.
  std::uint32_t header_crc() const { return header().header_crc; }
  /// First byte of a page, counted from the segment's first.
  std::byte* Page(std::int64_t page) const;
  /// Whose bytes these are: see SegmentSpec::maker.
  const Fingerprint& maker() const { return spec_.maker; }
  /// f32 [hidden_size]; empty for a V file.
  std::span<const float> last_hidden() const;

  /// Checks the planes of `layer` in every page, once. Throws kDataLoss or kCancelled.
  void VerifyLayer(std::int32_t layer, const CancellationFlag& cancellation);
  /// Checks every plane of a page, once. Throws kDataLoss.
  void VerifyPage(std::int64_t page);

 private:
  const SegmentHeader& header() const;
  void VerifyPlanes(std::int64_t page, std::int32_t layer);

  SegmentSpec spec_;
  FileMapping mapping_;
  std::vector<bool> verified_planes_;  // [pages][layers][kv_heads]
  std::vector<bool> verified_layers_;  // [layers]: all of its planes
};

/// A segment file that is being written, under a temporary name until Publish.
class SegmentWriter {
 public:
  /// Creates the file and takes its space. Throws kValueStoreFull with bytes wanted and free,
  /// kCancelled between pieces of the reservation, or kIo.
  SegmentWriter(int folder_fd, SegmentSpec spec, const CancellationFlag& cancellation);
  /// Removes the file unless it was published.
  ~SegmentWriter();
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  std::byte* Page(std::int64_t page) const;
  /// Checksums the planes, writes table, last hidden row (K only) and header, and makes the mapping
  /// read-only.
  void Complete(std::span<const float> last_hidden, const CancellationFlag& cancellation);
  /// Gives the file its name (never replacing one). Complete must have returned.
  void Publish();
  /// Unlinks the published file again: its other half could not be published.
  void Unpublish();
  /// The mapping, as a finished file whose planes count as checked. After Complete; only Publish,
  /// Unpublish and destruction may follow.
  SegmentFile TakeFile() &&;

 private:
  void Reserve(const CancellationFlag& cancellation);

  int folder_fd_;
  SegmentSpec spec_;
  SegmentHeader header_;
  std::string final_name_;
  std::string temporary_name_;
  UniqueFd fd_;
  std::unique_ptr<FileMapping> mapping_;
  bool published_ = false;
};

}  // namespace longshadow
