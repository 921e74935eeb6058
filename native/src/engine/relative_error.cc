#include "engine/relative_error.h"

#include <cmath>
#include <cstdint>

namespace longshadow {
namespace {

double Element(const ConstMatrixView& matrix, std::int64_t row, std::int64_t column) {
  const std::int64_t index = row * matrix.stride + column;
  if (matrix.dtype == DType::kF32) return static_cast<const float*>(matrix.data)[index];
  return static_cast<const BFloat16*>(matrix.data)[index].ToFloat();
}

}  // namespace

double RelativeError(const ConstMatrixView& approximate, const ConstMatrixView& exact) {
  double difference = 0;
  double norm = 0;
  for (std::int64_t row = 0; row < exact.rows; ++row) {
    for (std::int64_t column = 0; column < exact.cols; ++column) {
      const double wanted = Element(exact, row, column);
      const double error = Element(approximate, row, column) - wanted;
      difference += error * error;
      norm += wanted * wanted;
    }
  }
  if (difference == 0) return 0;
  const double relative = std::sqrt(difference / norm);
  return std::isfinite(relative) ? relative : 1;
}

}  // namespace longshadow
