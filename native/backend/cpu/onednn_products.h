#pragma once

#include <cstdint>
#include <memory>

#include "cpu_context.h"
#include "packed_weight.h"

namespace longshadow::cpu {

/// bf16 x bf16 -> f32 products of many rows by oneDNN, over our packed panels as they are.
/// oneDNN runs single-threaded inside each of our threads (see ThreadPool::Run), so that no
/// OpenMP team exists, let alone spins. Primitives are kept for each shape.
/// Input features go in blocks of kFeatureBlock, as in the kernels for few rows: over one block
/// oneDNN 2.6 adds up in ascending order, so a row has the same bits whichever of the two ran.
class OneDnnProducts {
 public:
  explicit OneDnnProducts(CpuContext& context);
  ~OneDnnProducts();

  /// y [n, out] f32 = x [n, in] bf16 W^T, or += when `accumulate`. n > 0; `weight` is kBf16Pairs;
  /// y's rows are adjacent (oneDNN 2.6 takes its reference loops for any other stride).
  void Run(ConstMatrixView x, const PackedWeight& weight, MatrixView y, bool accumulate);

 private:
  /// x as dense matrices, one a feature block: [in / 512][rows][512]; x itself where it is one.
  const std::uint16_t* FeatureBlocks(ConstMatrixView x);

  struct State;
  CpuContext& context_;
  AlignedBuffer blocks_;
  std::unique_ptr<State> state_;
};

}  // namespace longshadow::cpu
