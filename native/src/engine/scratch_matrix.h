#pragma once

#include <cstdint>

#include "longshadow/backend.h"

namespace longshadow {

/// A row-major activation matrix in a backend's memory that grows by rows and is never shrunk:
/// taken once, used by every call after. The backend must outlive it.
class ScratchMatrix {
 public:
  ScratchMatrix(Backend& backend, DType dtype, std::int64_t rows, std::int64_t cols)
      : backend_(backend), dtype_(dtype), cols_(cols) {
    Reserve(rows);
  }
  ~ScratchMatrix() { backend_.Free(data_); }
  ScratchMatrix(const ScratchMatrix&) = delete;
  ScratchMatrix& operator=(const ScratchMatrix&) = delete;

  /// Room for `rows` rows. Contents are lost when it grows.
  void Reserve(std::int64_t rows) {
    if (rows <= rows_) return;
    backend_.Free(data_);
    data_ = nullptr;
    rows_ = 0;
    data_ = backend_.Allocate(rows * cols_ * static_cast<std::int64_t>(DTypeBytes(dtype_)));
    rows_ = rows;
  }

  DType dtype() const { return dtype_; }
  std::int64_t cols() const { return cols_; }
  /// The first `rows` rows; at most as many as reserved.
  MatrixView First(std::int64_t rows) const { return {data_, dtype_, rows, cols_, cols_}; }

 private:
  Backend& backend_;
  DType dtype_;
  std::int64_t cols_;
  std::int64_t rows_ = 0;
  void* data_ = nullptr;
};

/// Rows [begin, begin + rows) of a matrix.
inline MatrixView RowsOf(const MatrixView& matrix, std::int64_t begin, std::int64_t rows) {
  const std::int64_t offset =
      begin * matrix.stride * static_cast<std::int64_t>(DTypeBytes(matrix.dtype));
  return {static_cast<std::byte*>(matrix.data) + offset, matrix.dtype, rows, matrix.cols,
          matrix.stride};
}

/// Columns [begin, begin + columns) of a matrix.
inline MatrixView ColumnsOf(const MatrixView& matrix, std::int64_t begin, std::int64_t columns) {
  const std::int64_t offset = begin * static_cast<std::int64_t>(DTypeBytes(matrix.dtype));
  return {static_cast<std::byte*>(matrix.data) + offset, matrix.dtype, matrix.rows, columns,
          matrix.stride};
}

}  // namespace longshadow
