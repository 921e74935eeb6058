#include "kv/hand_off.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <type_traits>

#include "kv/crc32c.h"
#include "kv/geometry_check.h"
#include "longshadow/error.h"

namespace longshadow {
namespace {

struct HandOffHeader {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t crc;  // of every byte from total_length on
  std::uint64_t total_length;
  std::array<char, 32> session_id;
  Fingerprint fingerprint;
  std::uint32_t epoch;
  std::uint32_t stage;
  std::int32_t layer_begin;
  std::int32_t layers;
  std::int32_t kv_heads;
  std::int32_t head_dim;
  std::uint8_t dtype;
  std::uint8_t form;  // 0: K is post-rope
  std::array<std::uint8_t, 2> reserved;
  std::int32_t hidden_size;
  std::uint32_t segments;
  std::uint32_t reserved_word;
  std::int64_t tokens;
};
static_assert(sizeof(HandOffHeader) == 120);
static_assert(std::has_unique_object_representations_v<HandOffHeader>, "no padding bytes");
static_assert(sizeof(HandOffSegment) == 40);
static_assert(std::has_unique_object_representations_v<HandOffSegment>, "no padding bytes");

constexpr std::size_t kCrcBegin = offsetof(HandOffHeader, total_length);

/// The header but for the fields that only the sender knows: crc, length, segments, tokens.
HandOffHeader ExpectedHeader(const SessionKey& key, const KvGeometry& geometry,
                             std::int32_t hidden_size) {
  HandOffHeader header{};
  header.magic = {'L', 'S', 'H', 'A', 'N', 'D', 'O', '\n'};
  header.version = 2;  // 2: each segment's fingerprint
  std::copy_n(key.session_id.begin(), header.session_id.size(), header.session_id.begin());
  header.fingerprint = key.fingerprint;
  header.epoch = key.epoch;
  header.stage = key.stage;
  header.layer_begin = key.layer_begin;
  header.layers = geometry.layers;
  header.kv_heads = geometry.kv_heads;
  header.head_dim = geometry.head_dim;
  header.dtype = static_cast<std::uint8_t>(geometry.dtype);
  header.hidden_size = hidden_size;
  return header;
}

std::uint64_t TotalLength(std::int32_t hidden_size, std::uint32_t segments) {
  return sizeof(HandOffHeader) + static_cast<std::uint64_t>(hidden_size) * sizeof(float) +
         std::uint64_t{segments} * sizeof(HandOffSegment);
}

[[noreturn]] void Lost(const std::string& what) {
  throw Error(ErrorCode::kDataLoss, "the hand-off " + what);
}

/// Reads and checks the header; the bytes are then of the length it says.
HandOffHeader ReadHeader(std::span<const std::uint8_t> bytes, HandOffHeader expected) {
  HandOffHeader header;
  if (bytes.size() < sizeof(header)) Lost("is shorter than its header");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != expected.magic) Lost("is not one of ours");
  if (header.version != expected.version) Lost("was written by another version");
  if (header.total_length != bytes.size()) Lost("has not the length it says");
  if (header.crc != Crc32c(std::as_bytes(bytes.subspan(kCrcBegin)))) {
    Lost("has a checksum that does not match");
  }
  if (header.fingerprint != expected.fingerprint) Lost("has another fingerprint");
  expected.crc = header.crc;
  expected.total_length = TotalLength(expected.hidden_size, header.segments);
  expected.segments = header.segments;
  expected.tokens = header.tokens;
  if (std::memcmp(&header, &expected, sizeof(header)) != 0) {
    Lost("is of another session, epoch, stage or geometry");
  }
  return header;
}

void CheckSegments(const HandOff& hand_off) {
  std::int64_t position = 0;
  for (const HandOffSegment& segment : hand_off.segments) {
    if (segment.begin != position || segment.begin % kPageTokens != 0 ||
        segment.end <= segment.begin || segment.end > kMaxTokens) {
      Lost("has segments that do not follow each other");
    }
    position = segment.end;
  }
  if (position != hand_off.tokens || position == 0) Lost("has segments that do not cover it");
}

}  // namespace

std::vector<std::uint8_t> WriteHandOff(const SessionKey& key, const KvGeometry& geometry,
                                       const HandOff& hand_off) {
  HandOffHeader header =
      ExpectedHeader(key, geometry, static_cast<std::int32_t>(hand_off.last_hidden.size()));
  header.segments = static_cast<std::uint32_t>(hand_off.segments.size());
  header.total_length = TotalLength(header.hidden_size, header.segments);
  header.tokens = hand_off.tokens;
  std::vector<std::uint8_t> bytes(header.total_length);
  std::uint8_t* out = bytes.data() + sizeof(header);
  const std::size_t row_bytes = hand_off.last_hidden.size() * sizeof(float);
  std::memcpy(out, hand_off.last_hidden.data(), row_bytes);
  std::memcpy(out + row_bytes, hand_off.segments.data(),
              hand_off.segments.size() * sizeof(HandOffSegment));
  std::memcpy(bytes.data(), &header, sizeof(header));
  header.crc = Crc32c(std::as_bytes(std::span(bytes).subspan(kCrcBegin)));
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes;
}

HandOff ReadHandOff(std::span<const std::uint8_t> bytes, const SessionKey& expected,
                    const KvGeometry& geometry, std::int32_t hidden_size) {
  const HandOffHeader header = ReadHeader(bytes, ExpectedHeader(expected, geometry, hidden_size));
  HandOff hand_off;
  hand_off.tokens = header.tokens;
  hand_off.last_hidden.resize(static_cast<std::size_t>(hidden_size));
  hand_off.segments.resize(header.segments);
  const std::uint8_t* in = bytes.data() + sizeof(header);
  const std::size_t row_bytes = hand_off.last_hidden.size() * sizeof(float);
  std::memcpy(hand_off.last_hidden.data(), in, row_bytes);
  if (header.segments > 0) {
    std::memcpy(hand_off.segments.data(), in + row_bytes,
                hand_off.segments.size() * sizeof(HandOffSegment));
  }
  CheckSegments(hand_off);
  return hand_off;
}

}  // namespace longshadow
