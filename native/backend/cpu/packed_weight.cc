#include "packed_weight.h"

#include <algorithm>
#include <cstring>

namespace longshadow::cpu {

PackedWeight::PackedWeight(ConstMatrixView weight, DType compute, Layout layout, ThreadPool& pool)
    : out_(weight.rows), in_(weight.cols), compute_(compute), layout_(layout) {
  const std::int64_t whole = in_ / kFeatureBlock * kFeatureBlock;
  std::byte* data =
      buffer_.Reserve(panels() * kPanel * ElementBytes() * (whole + Padded(in_ - whole)));
  pool.Run(panels(), [&](std::int64_t index, std::int32_t) {
    for (std::int64_t begin = 0; begin < in_; begin += kFeatureBlock) {
      PackPanel(weight, begin, index, data + (panel(begin, index) - data));
    }
  });
}

void PackedWeight::PackPanel(ConstMatrixView weight, std::int64_t begin, std::int64_t index,
                             std::byte* to) const {
  std::memset(to, 0, static_cast<std::size_t>(panel_bytes(begin)));
  const std::int64_t columns = std::min(kPanel, out_ - index * kPanel);
  const std::int64_t inputs = std::min(kFeatureBlock, in_ - begin);
  const std::int64_t element = ElementBytes();
  for (std::int64_t c = 0; c < columns; ++c) {
    const std::byte* row = static_cast<const std::byte*>(weight.data) +
                           ((index * kPanel + c) * weight.stride + begin) * element;
    for (std::int64_t i = 0; i < inputs; ++i) {
      const std::int64_t at =
          layout_ == Layout::kBf16Pairs ? (i / 2 * kPanel + c) * 2 + i % 2 : i * kPanel + c;
      std::memcpy(to + at * element, row + i * element, static_cast<std::size_t>(element));
    }
  }
}

}  // namespace longshadow::cpu
