#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "longshadow/session_kv.h"

namespace longshadow {

/// K and V of a prompt chunk are two files, so that K can be unlinked alone.
enum class SegmentKind : std::uint8_t { kKeys = 0, kValues = 1 };

/// Everything that a segment file's bytes follow from, but for the data.
struct SegmentSpec {
  SessionKey key;
  KvGeometry geometry;
  std::int32_t hidden_size = 0;
  SegmentKind kind = SegmentKind::kKeys;
  std::int64_t begin = 0;  // a multiple of 512
  std::int64_t end = 0;
  Fingerprint maker{};  // of the session and plan that wrote it; key.fingerprint for our own

  /// Written by another session or plan: its header has that one's session id and epoch.
  bool IsForeign() const { return maker != key.fingerprint; }
  std::int64_t Pages() const;
  std::int64_t Planes() const;
};

/// The first 256 bytes of a segment file, little-endian. Then, at the offsets given:
///   table        CRC32C of every plane, u32 [pages][layers][kv_heads]
///   last_hidden  f32 [hidden_size], in the K file alone (a worker can seal after a restart)
///   data         [pages][layers][kv_heads][512][head_dim], from a multiple of 4096 on; rows past
///                `end` in the last page are zero
struct SegmentHeader {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t header_crc;  // over these 256 bytes with this field 0
  std::uint8_t kind;
  std::uint8_t form;  // 0: K is post-rope
  std::uint8_t dtype;
  std::uint8_t reserved_byte;
  std::uint32_t epoch;
  std::uint32_t stage;
  std::int32_t layer_begin;
  std::int32_t layers;
  std::int32_t kv_heads;
  std::int32_t head_dim;
  std::int32_t hidden_size;  // 0 in a V file
  std::uint32_t table_crc;
  std::uint32_t last_hidden_crc;  // 0 in a V file
  std::int64_t begin;
  std::int64_t end;
  std::int64_t table_offset;
  std::int64_t last_hidden_offset;
  std::int64_t data_offset;
  std::int64_t file_length;
  std::array<char, 32> session_id;
  Fingerprint fingerprint;
  std::array<std::uint8_t, 104> reserved;
};
static_assert(sizeof(SegmentHeader) == 256);

/// Throws kInvalidArgument unless key, geometry, hidden size and range are within the limits that
/// keep every size below 2^63.
void CheckSpec(const SegmentSpec& spec);

/// The header a file of this spec must have; its three CRC fields are 0. The spec is checked.
SegmentHeader ExpectedHeader(const SegmentSpec& spec);
std::uint32_t HeaderCrc(SegmentHeader header);

/// Throws kDataLoss unless `header` has a right CRC and equals that of `spec` in every other field
/// but the CRCs of table and last hidden row. Comparing whole headers leaves no field unchecked and
/// no arithmetic on untrusted numbers. A foreign segment's session id and epoch are its maker's,
/// which the fingerprint was made of and stands for.
void CheckHeader(const SegmentHeader& header, const SegmentSpec& spec);

/// "<epoch>-<stage>-<begin>-<end>.k" or ".v".
std::string SegmentFileName(const SegmentSpec& spec);

struct SegmentName {
  std::uint32_t epoch = 0;
  std::uint32_t stage = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  SegmentKind kind = SegmentKind::kKeys;
  bool finished = true;  // false: a temporary name, "<name>.tmp-..."
};

/// Reads a file name; absent for one that this library would not have made.
std::optional<SegmentName> ParseSegmentName(std::string_view name);

}  // namespace longshadow
