#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longshadow {

/// How the next token is chosen. temperature 0 is greedy (ties by lower id).
struct SamplingParameters {
  float temperature = 0;   // >= 0
  std::int32_t top_k = 0;  // 0: off
  float top_p = 1;         // (0, 1]
  std::uint64_t seed = 0;  // with the token's index, all the randomness there is
};

/// Throws kInvalidArgument with the parameter that is out of range.
void CheckSamplingParameters(const SamplingParameters& parameters);

/// Picks a token from logits [vocab] f32: temperature, then top-k, then top-p, then one draw from
/// a counter-based generator keyed by (seed, token_index). `logits` is not changed.
/// Throws kInvalidArgument as CheckSamplingParameters, kInternal when a logit is NaN or none is
/// finite.
std::uint32_t SampleToken(std::span<const float> logits, const SamplingParameters& parameters,
                          std::uint64_t token_index);

}  // namespace longshadow
