#include "kv/segment_format.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "kv/crc32c.h"
#include "kv/geometry_check.h"
#include "kv/store_directory.h"
#include "longshadow/error.h"

namespace longshadow {
namespace {

static_assert(std::endian::native == std::endian::little, "segments are little-endian");
static_assert(std::is_trivially_copyable_v<SegmentHeader>);
static_assert(std::has_unique_object_representations_v<SegmentHeader>, "no padding bytes");

constexpr std::array<char, 8> kMagic = {'L', 'S', 'K', 'V', 'S', 'E', 'G', '\n'};
constexpr std::uint32_t kVersion = 1;
constexpr std::int64_t kDataAlignment = 4096;
constexpr std::int64_t kRowAlignment = 64;
constexpr std::int32_t kMaxHiddenSize = 1 << 20;
constexpr std::string_view kTemporary = ".tmp-";

constexpr std::int64_t RoundUp(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

[[noreturn]] void Refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

/// Reads digits without leading zeros up to `separator` and drops both from `text`.
template <typename Number>
bool TakeNumber(std::string_view& text, char separator, Number& value) {
  const std::size_t length = text.find(separator);
  if (length == std::string_view::npos || length == 0) return false;
  if ((text[0] == '0' && length > 1) || text[0] == '-') return false;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + length, value);
  if (error != std::errc{} || stop != text.data() + length) return false;
  text.remove_prefix(length + 1);
  return true;
}

}  // namespace

std::int64_t SegmentSpec::Pages() const { return PagesOf(end - begin); }

std::int64_t SegmentSpec::Planes() const { return Pages() * geometry.layers * geometry.kv_heads; }

void CheckSpec(const SegmentSpec& spec) {
  CheckSessionId(spec.key.session_id);
  CheckGeometry(spec.geometry);
  if (spec.key.layer_begin < 0 || spec.key.layer_begin > kMaxLayers) {
    Refuse("layer_begin must be in [0, " + std::to_string(kMaxLayers) + "]");
  }
  if (spec.hidden_size < 1 || spec.hidden_size > kMaxHiddenSize) {
    Refuse("hidden_size must be in [1, " + std::to_string(kMaxHiddenSize) + "]");
  }
  if (spec.begin < 0 || spec.end <= spec.begin || spec.end > kMaxTokens) {
    Refuse("a segment must be a range of positions below " + std::to_string(kMaxTokens) +
           ", got [" + std::to_string(spec.begin) + ", " + std::to_string(spec.end) + ")");
  }
  if (spec.begin % kPageTokens != 0) {
    Refuse("a segment must begin at a multiple of 512, got " + std::to_string(spec.begin));
  }
}

SegmentHeader ExpectedHeader(const SegmentSpec& spec) {
  CheckSpec(spec);
  const bool keys = spec.kind == SegmentKind::kKeys;
  SegmentHeader header{};
  header.magic = kMagic;
  header.version = kVersion;
  header.kind = static_cast<std::uint8_t>(spec.kind);
  header.dtype = static_cast<std::uint8_t>(spec.geometry.dtype);
  header.epoch = spec.key.epoch;
  header.stage = spec.key.stage;
  header.layer_begin = spec.key.layer_begin;
  header.layers = spec.geometry.layers;
  header.kv_heads = spec.geometry.kv_heads;
  header.head_dim = spec.geometry.head_dim;
  header.hidden_size = keys ? spec.hidden_size : 0;
  header.begin = spec.begin;
  header.end = spec.end;
  header.table_offset = sizeof(SegmentHeader);
  header.last_hidden_offset = RoundUp(
      header.table_offset + spec.Planes() * std::int64_t{sizeof(std::uint32_t)}, kRowAlignment);
  header.data_offset = RoundUp(
      header.last_hidden_offset + header.hidden_size * std::int64_t{sizeof(float)}, kDataAlignment);
  header.file_length = header.data_offset + spec.Pages() * spec.geometry.PageBytes();
  std::copy(spec.key.session_id.begin(), spec.key.session_id.end(), header.session_id.begin());
  header.fingerprint = spec.maker;
  return header;
}

std::uint32_t HeaderCrc(SegmentHeader header) {
  header.header_crc = 0;
  return Crc32c(std::as_bytes(std::span(&header, 1)));
}

void CheckHeader(const SegmentHeader& header, const SegmentSpec& spec) {
  const auto refuse = [&](const char* what) {
    throw Error(ErrorCode::kDataLoss, "segment " + SegmentFileName(spec) + ": " + what);
  };
  SegmentHeader expected = ExpectedHeader(spec);
  if (spec.IsForeign()) {
    expected.session_id = header.session_id;
    expected.epoch = header.epoch;
  }
  if (header.magic != expected.magic) refuse("not a segment file");
  if (header.version != expected.version) refuse("written by another version");
  if (header.header_crc != HeaderCrc(header)) refuse("the header's checksum does not match");
  if (header.fingerprint != expected.fingerprint) refuse("the fingerprint does not match");
  SegmentHeader rest = header;
  rest.header_crc = 0;
  rest.table_crc = 0;
  rest.last_hidden_crc = 0;
  if (std::memcmp(&rest, &expected, sizeof(rest)) != 0) {
    refuse("session, epoch, stage, range or geometry does not match");
  }
}

std::string SegmentFileName(const SegmentSpec& spec) {
  return std::to_string(spec.key.epoch) + "-" + std::to_string(spec.key.stage) + "-" +
         std::to_string(spec.begin) + "-" + std::to_string(spec.end) +
         (spec.kind == SegmentKind::kKeys ? ".k" : ".v");
}

std::optional<SegmentName> ParseSegmentName(std::string_view name) {
  SegmentName parsed;
  if (!TakeNumber(name, '-', parsed.epoch) || !TakeNumber(name, '-', parsed.stage) ||
      !TakeNumber(name, '-', parsed.begin) || !TakeNumber(name, '.', parsed.end)) {
    return std::nullopt;
  }
  if (name.empty() || (name[0] != 'k' && name[0] != 'v')) return std::nullopt;
  parsed.kind = name[0] == 'k' ? SegmentKind::kKeys : SegmentKind::kValues;
  name.remove_prefix(1);
  parsed.finished = name.empty();
  if (!parsed.finished && !name.starts_with(kTemporary)) return std::nullopt;
  return parsed;
}

}  // namespace longshadow
