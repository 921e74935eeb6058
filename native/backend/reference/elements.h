#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "longshadow/backend.h"
#include "longshadow/dtype.h"

namespace longshadow {

/// Element `index` of an array of either dtype, widened.
inline float LoadElement(const void* data, DType dtype, std::int64_t index) {
  return dtype == DType::kF32 ? static_cast<const float*>(data)[index]
                              : static_cast<const BFloat16*>(data)[index].ToFloat();
}

/// Stores a value rounded once: fp64 to fp32, or through fp32 to bf16.
inline void StoreElement(void* data, DType dtype, std::int64_t index, double value) {
  const auto narrow = static_cast<float>(value);
  if (dtype == DType::kF32) {
    static_cast<float*>(data)[index] = narrow;
  } else {
    static_cast<BFloat16*>(data)[index] = BFloat16::FromFloat(narrow);
  }
}

inline float At(const ConstMatrixView& m, std::int64_t row, std::int64_t col) {
  return LoadElement(m.data, m.dtype, row * m.stride + col);
}

inline void Put(const MatrixView& m, std::int64_t row, std::int64_t col, double value) {
  StoreElement(m.data, m.dtype, row * m.stride + col, value);
}

/// Elements [first, first + values.size()) of an array of either dtype, widened.
inline void LoadElements(const void* data, DType dtype, std::int64_t first,
                         std::span<double> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<double>(LoadElement(data, dtype, first + static_cast<std::int64_t>(i)));
  }
}

/// The row of a position in a K or V plane: the array and the index of its first element.
struct PlaneRow {
  std::byte* plane;
  std::int64_t first;
};

inline PlaneRow FindRow(std::span<std::byte* const> pages, const KvGeometry& geometry,
                        std::int32_t layer, std::int32_t kv_head, std::int64_t position) {
  std::byte* page = pages[static_cast<std::size_t>(position / kPageTokens)];
  return {page + geometry.PlaneOffset(layer, kv_head), position % kPageTokens * geometry.head_dim};
}

}  // namespace longshadow
