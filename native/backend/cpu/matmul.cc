// Which kernel multiplies, and what a row's bits depend on.
//
//   weights, compute             rows <= 64                  rows > 64
//   bf16, bf16, avx512_bf16      own vdpbf16ps kernel        oneDNN bf16 over the same panels
//   anything else                own fp32 kernel, panel by panel (bf16 weights are converted to
//                                fp32 in thread scratch, 1,024 input features at a time)
//
// The own kernels add up each element in one fixed order whatever the number of rows, so any two
// calls of at most 64 rows agree bit for bit in the rows they share; on the fp32 kernels calls of
// any size do. Of oneDNN 2.6 the conformance suite checks that it gives the same bits as well.
#include "matmul.h"

#include <algorithm>

#include "onednn_products.h"
#include "packed_weight.h"

namespace longshadow::cpu {
namespace {

constexpr std::int64_t kFewRows = 64;
constexpr std::int64_t kFeatureBlock = 1024;  // 64 of them: 256 KiB of fp32, inside L2
constexpr std::int64_t kRowBlock = 240;       // rows of one task: whole tiles of 5 and of 6 rows

void RunBf16Panel(const CpuContext& context, ConstMatrixView x, const PackedWeight& weight,
                  MatrixView y, bool accumulate, std::int64_t panel) {
  GemmArgs args;
  args.x = x.data;
  args.x_stride = x.stride;
  args.rows = x.rows;
  args.in = x.cols;
  args.panel = weight.panel(panel);
  args.y = static_cast<float*>(y.data) + panel * kPanel;
  args.y_stride = y.stride;
  args.columns = std::min(kPanel, weight.out_features() - panel * kPanel);
  args.accumulate = accumulate;
  context.kernels.gemm_bf16(args);
}

/// One panel times rows of fp32 x.
void RunF32Panel(CpuContext& context, std::int32_t thread, ConstMatrixView x,
                 const PackedWeight& weight, MatrixView y, bool accumulate, std::int64_t panel) {
  const bool bf16 = weight.layout() == PackedWeight::Layout::kBf16;
  GemmArgs args;
  args.x_stride = x.stride;
  args.rows = x.rows;
  args.y = static_cast<float*>(y.data) + panel * kPanel;
  args.y_stride = y.stride;
  args.columns = std::min(kPanel, weight.out_features() - panel * kPanel);
  for (std::int64_t begin = 0; begin < x.cols; begin += kFeatureBlock) {
    args.in = std::min(kFeatureBlock, x.cols - begin);
    args.x = static_cast<const float*>(x.data) + begin;
    args.accumulate = accumulate || begin > 0;
    const std::int64_t at = begin * kPanel;
    if (bf16) {
      auto* floats = reinterpret_cast<float*>(context.Scratch(thread, kFeatureBlock * kPanel * 4));
      context.kernels.bf16_to_f32(reinterpret_cast<const std::uint16_t*>(weight.panel(panel)) + at,
                                  floats, args.in * kPanel);
      args.panel = floats;
    } else {
      args.panel = reinterpret_cast<const float*>(weight.panel(panel)) + at;
    }
    context.kernels.gemm_f32(args);
  }
}

}  // namespace

MatMulRunner::MatMulRunner(CpuContext& context) : context_(context) {
  if (context.kernels.gemm_bf16 != nullptr) onednn_ = std::make_unique<OneDnnProducts>(context);
}

MatMulRunner::~MatMulRunner() = default;

std::unique_ptr<PackedMatrix> MatMulRunner::Pack(ConstMatrixView weight, DType compute) {
  Require(weight.rows > 0 && weight.cols > 0, "a weight matrix must not be empty");
  PackedWeight::Layout layout = PackedWeight::Layout::kF32;
  if (weight.dtype == DType::kBF16) {
    layout = compute == DType::kBF16 && context_.kernels.gemm_bf16 != nullptr
                 ? PackedWeight::Layout::kBf16Pairs
                 : PackedWeight::Layout::kBf16;
  }
  return std::make_unique<PackedWeight>(weight, compute, layout, context_.pool);
}

void MatMulRunner::Run(ConstMatrixView x, const PackedMatrix& weight, MatrixView y,
                       bool accumulate) {
  const auto& packed = dynamic_cast<const PackedWeight&>(weight);
  Require(x.dtype == packed.compute() && y.dtype == DType::kF32, "MatMul: dtype of x or y");
  Require(x.cols == packed.in_features() && y.cols == packed.out_features() && x.rows == y.rows,
          "MatMul: shapes of x, y and the weights do not fit");
  if (x.rows == 0) return;
  if (packed.layout() == PackedWeight::Layout::kBf16Pairs) {
    if (x.rows > kFewRows) {
      onednn_->Run(x, packed, y, accumulate);
    } else {
      context_.pool.Run(packed.panels(), [&](std::int64_t panel, std::int32_t) {
        RunBf16Panel(context_, x, packed, y, accumulate, panel);
      });
    }
    return;
  }
  if (x.dtype == DType::kBF16) {
    auto* floats = reinterpret_cast<float*>(converted_.Reserve(x.rows * x.cols * 4));
    context_.pool.Run(x.rows, [&](std::int64_t row, std::int32_t) {
      context_.kernels.bf16_to_f32(static_cast<const std::uint16_t*>(x.data) + row * x.stride,
                                   floats + row * x.cols, x.cols);
    });
    x = ConstMatrixView(floats, DType::kF32, x.rows, x.cols, x.cols);
  }
  const std::int64_t blocks = (x.rows + kRowBlock - 1) / kRowBlock;
  context_.pool.Run(blocks * packed.panels(), [&](std::int64_t task, std::int32_t thread) {
    const std::int64_t row = task / packed.panels() * kRowBlock;
    const std::int64_t rows = std::min(kRowBlock, x.rows - row);
    const ConstMatrixView part(static_cast<const float*>(x.data) + row * x.stride, DType::kF32,
                               rows, x.cols, x.stride);
    const MatrixView target{static_cast<float*>(y.data) + row * y.stride, DType::kF32, rows, y.cols,
                            y.stride};
    RunF32Panel(context_, thread, part, packed, target, accumulate, task % packed.panels());
  });
}

}  // namespace longshadow::cpu
