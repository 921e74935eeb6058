#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "longshadow/session_kv.h"

namespace longshadow {

/// One entry of the manifest. The header CRCs bind the hand-off to the very bytes of both files.
struct HandOffSegment {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::uint32_t keys_header_crc = 0;
  std::uint32_t values_header_crc = 0;
  Fingerprint fingerprint{};  // of the segment's maker; the key's for the session's own
};

/// What decode needs of a prefilled session under exact attention.
struct HandOff {
  std::int64_t tokens = 0;
  std::vector<float> last_hidden;        // [hidden_size], the residual row at tokens - 1
  std::vector<HandOffSegment> segments;  // contiguous from 0 to tokens
};

/// Bytes, little-endian: a 120-byte header (magic, version, CRC32C of all that follows it, total
/// length, key, geometry, counts), last_hidden f32, then the segments as above.
std::vector<std::uint8_t> WriteHandOff(const SessionKey& key, const KvGeometry& geometry,
                                       const HandOff& hand_off);

/// Reads untrusted bytes. Throws kDataLoss unless they are intact and of exactly this key,
/// geometry and hidden size, with segments that cover [0, tokens) in order.
HandOff ReadHandOff(std::span<const std::uint8_t> bytes, const SessionKey& expected,
                    const KvGeometry& geometry, std::int32_t hidden_size);

}  // namespace longshadow
