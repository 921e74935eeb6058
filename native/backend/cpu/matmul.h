#pragma once

#include <memory>

#include "cpu_context.h"
#include "longshadow/backend.h"

namespace longshadow::cpu {

class OneDnnProducts;

/// Matrix products of one backend. See matmul.cc for which kernel runs when.
class MatMulRunner {
 public:
  explicit MatMulRunner(CpuContext& context);
  ~MatMulRunner();

  std::unique_ptr<PackedMatrix> Pack(ConstMatrixView weight, DType compute);
  void Run(ConstMatrixView x, const PackedMatrix& weight, MatrixView y, bool accumulate);

 private:
  CpuContext& context_;
  std::unique_ptr<OneDnnProducts> onednn_;
};

}  // namespace longshadow::cpu
