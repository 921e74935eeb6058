#include "packed_weight.h"

#include <algorithm>
#include <cstring>

namespace longshadow::cpu {

PackedWeight::PackedWeight(ConstMatrixView weight, DType compute, Layout layout, ThreadPool& pool)
    : out_(weight.rows), in_(weight.cols), compute_(compute), layout_(layout) {
  std::byte* data = buffer_.Reserve(panels() * panel_bytes());
  pool.Run(panels(), [&](std::int64_t index, std::int32_t) {
    PackPanel(weight, index, data + index * panel_bytes());
  });
}

void PackedWeight::PackPanel(ConstMatrixView weight, std::int64_t index, std::byte* to) const {
  std::memset(to, 0, static_cast<std::size_t>(panel_bytes()));
  const std::int64_t columns = std::min(kPanel, out_ - index * kPanel);
  const auto element = static_cast<std::int64_t>(DTypeBytes(weight.dtype));
  for (std::int64_t c = 0; c < columns; ++c) {
    const std::byte* row =
        static_cast<const std::byte*>(weight.data) + (index * kPanel + c) * weight.stride * element;
    for (std::int64_t i = 0; i < in_; ++i) {
      const std::int64_t at =
          layout_ == Layout::kBf16Pairs ? (i / 2 * kPanel + c) * 2 + i % 2 : i * kPanel + c;
      std::memcpy(to + at * element, row + i * element, static_cast<std::size_t>(element));
    }
  }
}

}  // namespace longshadow::cpu
