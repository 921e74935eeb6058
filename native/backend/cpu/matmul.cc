// Which kernel multiplies, and what a row's bits depend on.
//
//   weights, compute             rows <= 64                  rows > 64
//   bf16, bf16, avx512_bf16      own vdpbf16ps kernel        oneDNN bf16 over the same panels
//                                                            (own kernel where y has row padding)
//   anything else                own fp32 kernel, panel by panel (bf16 weights are converted to
//                                fp32 in thread scratch, one block at a time)
//
// All cut the input features into blocks of 512, add up each block in ascending order in one
// register, and add the blocks to y in order. So a row's bits depend on that row alone, however
// many others are in the call and whichever kernel runs. For oneDNN that order is not promised:
// the conformance suite checks that the version at hand keeps it.
#include "matmul.h"

#include <algorithm>

#include "onednn_products.h"
#include "packed_weight.h"

namespace longshadow::cpu {
namespace {

constexpr std::int64_t kFewRows = 64;
constexpr std::int64_t kConvertRows = 12;
constexpr std::int64_t kRowBlock = 240;  // rows of one task: whole tiles of 6 rows

void RunBf16Panel(const CpuContext& context, ConstMatrixView x, const PackedWeight& weight,
                  MatrixView y, bool accumulate, std::int64_t panel) {
  GemmArgs args;
  args.x_stride = x.stride;
  args.rows = x.rows;
  args.y = static_cast<float*>(y.data) + panel * kPanel;
  args.y_stride = y.stride;
  args.columns = std::min(kPanel, weight.out_features() - panel * kPanel);
  for (std::int64_t begin = 0; begin < x.cols; begin += kFeatureBlock) {
    args.x = static_cast<const std::uint16_t*>(x.data) + begin;
    args.in = std::min(kFeatureBlock, x.cols - begin);
    args.panel = weight.panel(begin, panel);
    args.accumulate = accumulate || begin > 0;
    context.kernels.gemm_bf16(args);
  }
}

/// One panel times rows of fp32 x.
void RunF32Panel(CpuContext& context, std::int32_t thread, ConstMatrixView x,
                 const PackedWeight& weight, MatrixView y, bool accumulate, std::int64_t panel) {
  GemmArgs args;
  args.x_stride = x.stride;
  args.rows = x.rows;
  args.y = static_cast<float*>(y.data) + panel * kPanel;
  args.y_stride = y.stride;
  args.columns = std::min(kPanel, weight.out_features() - panel * kPanel);
  args.panel_bf16 = weight.layout() == PackedWeight::Layout::kBf16;
  // The kernel converts weights on the fly; many rows do better on a converted copy.
  const bool convert = args.panel_bf16 && x.rows > kConvertRows;
  for (std::int64_t begin = 0; begin < x.cols; begin += kFeatureBlock) {
    args.in = std::min(kFeatureBlock, x.cols - begin);
    args.x = static_cast<const float*>(x.data) + begin;
    args.accumulate = accumulate || begin > 0;
    args.panel = weight.panel(begin, panel);
    if (convert) {
      auto* floats = reinterpret_cast<float*>(context.Scratch(thread, kFeatureBlock * kPanel * 4));
      context.kernels.bf16_to_f32(static_cast<const std::uint16_t*>(args.panel), floats,
                                  args.in * kPanel);
      args.panel = floats;
      args.panel_bf16 = false;
    }
    context.kernels.gemm_f32(args);
    args.panel_bf16 = weight.layout() == PackedWeight::Layout::kBf16;
  }
}

/// Panels of one task: enough work to be worth another thread's waking up.
std::int64_t PanelsPerTask(std::int64_t rows, std::int64_t in) {
  constexpr std::int64_t kTaskProducts = 1 << 20;
  return std::max<std::int64_t>(1, kTaskProducts / (std::max<std::int64_t>(rows, 8) * in * kPanel));
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

ConstMatrixView MatMulRunner::AsFloats(ConstMatrixView x) {
  auto* floats = reinterpret_cast<float*>(converted_.Reserve(x.rows * x.cols * 4));
  constexpr std::int64_t kRows = 16;
  context_.pool.Run((x.rows + kRows - 1) / kRows, [&](std::int64_t task, std::int32_t) {
    const std::int64_t end = std::min(x.rows, (task + 1) * kRows);
    for (std::int64_t row = task * kRows; row < end; ++row) {
      context_.kernels.bf16_to_f32(static_cast<const std::uint16_t*>(x.data) + row * x.stride,
                                   floats + row * x.cols, x.cols);
    }
  });
  return {floats, DType::kF32, x.rows, x.cols, x.cols};
}

void MatMulRunner::Run(ConstMatrixView x, const PackedMatrix& weight, MatrixView y,
                       bool accumulate) {
  const auto& packed = dynamic_cast<const PackedWeight&>(weight);
  Require(x.dtype == packed.compute() && y.dtype == DType::kF32, "MatMul: dtype of x or y");
  Require(x.cols == packed.in_features() && y.cols == packed.out_features() && x.rows == y.rows,
          "MatMul: shapes of x, y and the weights do not fit");
  if (x.rows == 0) return;
  const bool pairs = packed.layout() == PackedWeight::Layout::kBf16Pairs;
  if (pairs && x.rows > kFewRows && y.stride == y.cols) {
    onednn_->Run(x, packed, y, accumulate);
    return;
  }
  if (!pairs && x.dtype == DType::kBF16) x = AsFloats(x);
  const std::int64_t row_blocks = (x.rows + kRowBlock - 1) / kRowBlock;
  const std::int64_t group = PanelsPerTask(std::min(x.rows, kRowBlock), x.cols);
  const std::int64_t groups = (packed.panels() + group - 1) / group;
  const auto element = static_cast<std::int64_t>(DTypeBytes(x.dtype));
  context_.pool.Run(row_blocks * groups, [&](std::int64_t task, std::int32_t thread) {
    const std::int64_t row = task / groups * kRowBlock;
    const std::int64_t rows = std::min(kRowBlock, x.rows - row);
    const ConstMatrixView part(static_cast<const std::byte*>(x.data) + row * x.stride * element,
                               x.dtype, rows, x.cols, x.stride);
    const MatrixView target{static_cast<float*>(y.data) + row * y.stride, DType::kF32, rows, y.cols,
                            y.stride};
    const std::int64_t end = std::min(packed.panels(), (task % groups + 1) * group);
    for (std::int64_t panel = task % groups * group; panel < end; ++panel) {
      if (pairs) {
        RunBf16Panel(context_, part, packed, target, accumulate, panel);
      } else {
        RunF32Panel(context_, thread, part, packed, target, accumulate, panel);
      }
    }
  });
}

}  // namespace longshadow::cpu
