#include "row_operations.h"

#include <algorithm>
#include <cmath>

namespace longshadow::cpu {
namespace {

/// Runs work(row, thread) over all rows; a task has as many as make it worth a thread's waking.
template <typename Work>
void ForRows(CpuContext& context, std::int64_t rows, std::int64_t cols, const Work& work) {
  constexpr std::int64_t kTaskElements = 1 << 15;
  const std::int64_t block = std::max<std::int64_t>(1, kTaskElements / cols);
  context.pool.Run((rows + block - 1) / block, [&](std::int64_t task, std::int32_t thread) {
    const std::int64_t end = std::min(rows, (task + 1) * block);
    for (std::int64_t row = task * block; row < end; ++row) work(row, thread);
  });
}

const float* FloatRow(const ConstMatrixView& m, std::int64_t row) {
  return static_cast<const float*>(m.data) + row * m.stride;
}

/// Runs compute(float*) on the output row itself, or on scratch that is then rounded to bf16.
template <typename Compute>
void WriteRow(CpuContext& context, std::int32_t thread, const MatrixView& out, std::int64_t row,
              const Compute& compute) {
  if (out.dtype == DType::kF32) {
    compute(static_cast<float*>(out.data) + row * out.stride);
    return;
  }
  auto* floats = reinterpret_cast<float*>(context.Scratch(thread, out.cols * 4));
  compute(floats);
  context.kernels.f32_to_bf16(floats, static_cast<std::uint16_t*>(out.data) + row * out.stride,
                              out.cols);
}

}  // namespace

void Embed(CpuContext& context, ConstMatrixView table, std::span<const std::uint32_t> ids,
           MatrixView x) {
  Require(x.dtype == DType::kF32 && x.cols == table.cols &&
              x.rows == static_cast<std::int64_t>(ids.size()),
          "Embed: shapes or dtype of x");
  Require(std::all_of(ids.begin(), ids.end(), [&](std::uint32_t id) { return id < table.rows; }),
          "Embed: a token id is past the end of the table");
  ForRows(context, x.rows, x.cols, [&](std::int64_t row, std::int32_t) {
    auto* to = static_cast<float*>(x.data) + row * x.stride;
    const std::int64_t at =
        static_cast<std::int64_t>(ids[static_cast<std::size_t>(row)]) * table.stride;
    if (table.dtype == DType::kBF16) {
      context.kernels.bf16_to_f32(static_cast<const std::uint16_t*>(table.data) + at, to, x.cols);
    } else {
      std::copy_n(static_cast<const float*>(table.data) + at, x.cols, to);
    }
  });
}

void RmsNorm(CpuContext& context, ConstMatrixView x, std::span<const float> weight, float eps,
             MatrixView out) {
  Require(x.dtype == DType::kF32 && out.rows == x.rows && out.cols == x.cols &&
              static_cast<std::int64_t>(weight.size()) == x.cols,
          "RmsNorm: shapes or dtype");
  ForRows(context, x.rows, x.cols, [&](std::int64_t row, std::int32_t thread) {
    WriteRow(context, thread, out, row, [&](float* to) {
      context.kernels.rms_norm(FloatRow(x, row), weight.data(), eps, x.cols, to);
    });
  });
}

void SiluMul(CpuContext& context, ConstMatrixView gate_up, MatrixView out) {
  Require(gate_up.dtype == DType::kF32 && gate_up.cols == 2 * out.cols && gate_up.rows == out.rows,
          "SiluMul: shapes or dtype");
  ForRows(context, out.rows, out.cols, [&](std::int64_t row, std::int32_t thread) {
    const float* gate = FloatRow(gate_up, row);
    WriteRow(context, thread, out, row,
             [&](float* to) { context.kernels.silu_mul(gate, gate + out.cols, out.cols, to); });
  });
}

void TokenLogprobs(CpuContext& context, ConstMatrixView logits,
                   std::span<const std::uint32_t> targets, std::span<float> logprobs,
                   std::span<std::uint32_t> ranks) {
  const auto rows = static_cast<std::size_t>(logits.rows);
  Require(logits.dtype == DType::kF32 && targets.size() == rows && logprobs.size() == rows &&
              ranks.size() == rows,
          "TokenLogprobs: shapes or dtype");
  Require(std::all_of(targets.begin(), targets.end(),
                      [&](std::uint32_t target) { return target < logits.cols; }),
          "TokenLogprobs: a target is past the end of the vocabulary");
  ForRows(context, logits.rows, logits.cols, [&](std::int64_t row, std::int32_t) {
    const auto i = static_cast<std::size_t>(row);
    const float* values = FloatRow(logits, row);
    const std::int64_t target = targets[i];
    const float own = values[target];
    const float top = context.kernels.max(values, logits.cols);
    const double sum = context.kernels.sum_exp(values, top, logits.cols);
    logprobs[i] =
        static_cast<float>(static_cast<double>(own) - static_cast<double>(top) - std::log(sum));
    const std::int64_t ties = std::count(values, values + target, own);
    ranks[i] = static_cast<std::uint32_t>(
        1 + context.kernels.count_greater(values, own, logits.cols) + ties);
  });
}

}  // namespace longshadow::cpu
