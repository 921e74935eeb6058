// Which kernel multiplies, and what a row's bits depend on.
//
//   weights, compute             rows <= 64                  rows > 64
//   bf16, bf16, avx512_bf16      own vdpbf16ps kernel        oneDNN bf16 over the same panels
//                                                            (own kernel where y has row padding)
//   anything else                own fp32 kernel, panel by panel (bf16 x and weights become fp32
//                                in thread scratch, a block of x and a slice of weights at a time)
//
// All cut the input features into blocks of 512, add up each block in ascending order in one
// register, and add the blocks to y in order. So a row's bits depend on that row alone, however
// many others are in the call and whichever kernel runs. For oneDNN that order is not promised:
// the conformance suite checks that the version at hand keeps it.
#include "matmul.h"

#include <algorithm>
#include <vector>

#include "onednn_products.h"
#include "packed_weight.h"

namespace longshadow::cpu {
namespace {

constexpr std::int64_t kFewRows = 64;
/// Rows of one task: whole tiles of 6, and 512 features of them in fp32 fill a fourth of an L2
/// cache of 2 MiB.
constexpr std::int64_t kRowBlock = 258;
/// Up to two tiles convert bf16 weights in registers; more share a converted copy.
constexpr std::int64_t kFewTileRows = 12;

/// Rows [begin, begin + rows) of a matrix.
template <typename View, typename Byte>
View RowsOf(View matrix, Byte* data, std::int64_t begin, std::int64_t rows) {
  matrix.data = data + begin * matrix.stride * static_cast<std::int64_t>(DTypeBytes(matrix.dtype));
  matrix.rows = rows;
  return matrix;
}

/// What the products of one task have in common: some rows of x and y, and some panels.
struct Part {
  ConstMatrixView x;
  MatrixView y;
  bool accumulate = false;
  std::int64_t first_panel = 0;
  std::int64_t end_panel = 0;
  bool x_is_there = false;  // as fp32 in the thread's scratch, from the task before
};

GemmArgs ArgsOf(const Part& part, const PackedWeight& weight, std::int64_t begin,
                std::int64_t panel) {
  GemmArgs args;
  args.rows = part.x.rows;
  args.in = std::min(kFeatureBlock, part.x.cols - begin);
  args.panel = weight.panel(begin, panel);
  args.y = static_cast<float*>(part.y.data) + panel * kPanel;
  args.y_stride = part.y.stride;
  args.columns = std::min(kPanel, weight.out_features() - panel * kPanel);
  args.accumulate = part.accumulate || begin > 0;
  return args;
}

void RunBf16(const CpuContext& context, const Part& part, const PackedWeight& weight) {
  for (std::int64_t panel = part.first_panel; panel < part.end_panel; ++panel) {
    for (std::int64_t begin = 0; begin < part.x.cols; begin += kFeatureBlock) {
      GemmArgs args = ArgsOf(part, weight, begin, panel);
      args.x = static_cast<const std::uint16_t*>(part.x.data) + begin;
      args.x_stride = part.x.stride;
      context.kernels.gemm_bf16(args);
    }
  }
}

/// Block by block of input features, so that a block of x stays in the second-level cache.
void RunF32(CpuContext& context, std::int32_t thread, const Part& part,
            const PackedWeight& weight) {
  const bool x_bf16 = part.x.dtype == DType::kBF16;
  const std::int64_t x_floats = x_bf16 ? part.x.rows * kFeatureBlock : 0;
  const bool many = part.x.rows > kFewTileRows;
  const std::int64_t gemm_floats = many ? (part.x.rows + kGemmSlice) * kPanel : 0;
  auto* scratch = reinterpret_cast<float*>(
      context.Scratch(thread, (gemm_floats + x_floats) * std::int64_t{sizeof(float)}));
  float* floats = scratch + gemm_floats;
  for (std::int64_t begin = 0; begin < part.x.cols; begin += kFeatureBlock) {
    if (x_bf16 && !part.x_is_there) {
      const auto* x = static_cast<const std::uint16_t*>(part.x.data) + begin;
      const std::int64_t in = std::min(kFeatureBlock, part.x.cols - begin);
      for (std::int64_t r = 0; r < part.x.rows; ++r) {
        context.kernels.bf16_to_f32(x + r * part.x.stride, floats + r * kFeatureBlock, in);
      }
    }
    for (std::int64_t panel = part.first_panel; panel < part.end_panel; ++panel) {
      GemmArgs args = ArgsOf(part, weight, begin, panel);
      args.panel_bf16 = weight.layout() == PackedWeight::Layout::kBf16;
      if (many) args.scratch = scratch;
      args.x_stride = x_bf16 ? kFeatureBlock : part.x.stride;
      args.x = x_bf16 ? floats : static_cast<const float*>(part.x.data) + begin;
      context.kernels.gemm_f32(args);
    }
  }
}

/// How a product is cut into tasks: blocks of rows times groups of panels.
struct Cut {
  std::int64_t rows;
  std::int64_t row_blocks;
  std::int64_t panels;
  std::int64_t groups;
};

/// Tasks are large enough to be worth another thread's waking up and, with many rows, the
/// conversion of x and of the weights; and enough that no thread waits long for the last one.
Cut CutProduct(std::int64_t rows, std::int64_t in, std::int64_t panels, std::int32_t threads) {
  constexpr std::int64_t kTaskProducts = 1 << 20;
  // More where x is converted once for many tasks: see `converted` in Run.
  const std::int64_t tasks = threads * (in <= kFeatureBlock ? 16 : 4);
  constexpr std::int64_t kTileRows = 6;
  Cut cut{};
  cut.row_blocks = (rows + kRowBlock - 1) / kRowBlock;
  cut.rows = (rows + cut.row_blocks - 1) / cut.row_blocks;
  cut.rows = (cut.rows + kTileRows - 1) / kTileRows * kTileRows;
  cut.row_blocks = (rows + cut.rows - 1) / cut.rows;
  const std::int64_t least = std::max<std::int64_t>(
      1, kTaskProducts / (std::max<std::int64_t>(cut.rows, 8) * in * kPanel));
  const std::int64_t groups =
      std::max<std::int64_t>(1, (tasks + cut.row_blocks - 1) / cut.row_blocks);
  cut.panels = std::max(least, (panels + groups - 1) / groups);
  cut.groups = (panels + cut.panels - 1) / cut.panels;
  return cut;
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
  const bool pairs = packed.layout() == PackedWeight::Layout::kBf16Pairs;
  if (pairs && x.rows > kFewRows && y.stride == y.cols) {
    onednn_->Run(x, packed, y, accumulate);
    return;
  }
  const Cut cut = CutProduct(x.rows, x.cols, packed.panels(), context_.pool.threads());
  // The rows whose only block of features each thread has converted last.
  std::vector<std::int64_t> converted(static_cast<std::size_t>(context_.pool.threads()), -1);
  context_.pool.Run(cut.row_blocks * cut.groups, [&](std::int64_t task, std::int32_t thread) {
    const std::int64_t row = task / cut.groups * cut.rows;
    const std::int64_t rows = std::min(cut.rows, x.rows - row);
    Part part{RowsOf(x, static_cast<const std::byte*>(x.data), row, rows),
              RowsOf(y, static_cast<std::byte*>(y.data), row, rows), accumulate};
    part.first_panel = task % cut.groups * cut.panels;
    part.end_panel = std::min(packed.panels(), part.first_panel + cut.panels);
    std::int64_t& last = converted[static_cast<std::size_t>(thread)];
    part.x_is_there = last == row;
    if (x.cols <= kFeatureBlock) last = row;
    if (pairs) {
      RunBf16(context_, part, packed);
    } else {
      RunF32(context_, thread, part, packed);
    }
  });
}

}  // namespace longshadow::cpu
