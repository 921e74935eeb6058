#include "longshadow/sampler.h"

#include <cmath>
#include <string>

#include "longshadow/error.h"
#include "sampling/logit_processors.h"
#include "sampling/philox.h"

namespace longshadow {
namespace {

/// Index of the largest logit, the lower one of a tie.
std::uint32_t Argmax(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) {
      throw Error(ErrorCode::kInternal, "logit " + std::to_string(i) + " is not a number");
    }
    if (logits[i] > logits[best]) best = i;
  }
  if (logits.empty() || !std::isfinite(logits[best])) {
    throw Error(ErrorCode::kInternal, "the largest logit is not finite");
  }
  return static_cast<std::uint32_t>(best);
}

}  // namespace

void CheckSamplingParameters(const SamplingParameters& parameters) {
  if (!(parameters.temperature >= 0) || !std::isfinite(parameters.temperature)) {
    throw Error(ErrorCode::kInvalidArgument, "temperature must be 0 or more");
  }
  if (parameters.top_k < 0) {
    throw Error(ErrorCode::kInvalidArgument, "top_k must be 0 (off) or more");
  }
  if (!(parameters.top_p > 0 && parameters.top_p <= 1)) {
    throw Error(ErrorCode::kInvalidArgument, "top_p must be above 0 and at most 1");
  }
}

std::uint32_t SampleToken(std::span<const float> logits, const SamplingParameters& parameters,
                          std::uint64_t token_index) {
  CheckSamplingParameters(parameters);
  const std::uint32_t best = Argmax(logits);
  if (parameters.temperature == 0) return best;
  std::vector<Candidate> candidates =
      ApplyTemperature(logits, logits[best], parameters.temperature);
  if (parameters.top_k > 0) KeepTopK(candidates, parameters.top_k);
  if (parameters.top_p < 1) KeepTopP(candidates, parameters.top_p);
  return Draw(candidates, UniformAt(parameters.seed, token_index));
}

}  // namespace longshadow
