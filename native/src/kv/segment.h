#pragma once

#include <cstdint>

#include "kv/segment_file.h"
#include "kv/segment_format.h"
#include "longshadow/session_kv.h"

namespace longshadow {

inline SegmentSpec WithKind(SegmentSpec spec, SegmentKind kind) {
  spec.kind = kind;
  return spec;
}

/// K and V of one prompt chunk, finished and mapped.
struct Segment {
  SegmentInfo info;
  SegmentFile keys;
  SegmentFile values;

  Segment(std::int64_t begin, std::int64_t end, SegmentFile k, SegmentFile v)
      : info{begin, end, k.bytes() + v.bytes()}, keys(std::move(k)), values(std::move(v)) {}

  /// Maps both files (`spec.kind` does not matter). Throws kDataLoss.
  static Segment Open(int folder_fd, const SegmentSpec& spec) {
    return {spec.begin, spec.end, SegmentFile::Open(folder_fd, WithKind(spec, SegmentKind::kKeys)),
            SegmentFile::Open(folder_fd, WithKind(spec, SegmentKind::kValues))};
  }

  void VerifyLayer(std::int32_t layer, const CancellationFlag& cancellation) {
    keys.VerifyLayer(layer, cancellation);
    values.VerifyLayer(layer, cancellation);
  }
};

}  // namespace longshadow
