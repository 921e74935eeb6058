#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu_context.h"
#include "longshadow/backend.h"

namespace longshadow::cpu {

// Shapes and meaning of each are those of longshadow::Backend.

void Embed(CpuContext& context, ConstMatrixView table, std::span<const std::uint32_t> ids,
           MatrixView x);
void RmsNorm(CpuContext& context, ConstMatrixView x, std::span<const float> weight, float eps,
             MatrixView out);
void SiluMul(CpuContext& context, ConstMatrixView gate_up, MatrixView out);
void TokenLogprobs(CpuContext& context, ConstMatrixView logits,
                   std::span<const std::uint32_t> targets, std::span<float> logprobs,
                   std::span<std::uint32_t> ranks);

}  // namespace longshadow::cpu
