#include <cmath>
#include <numbers>

#include "longshadow/model_config.h"

namespace longshadow {
namespace {

/// Llama-3.1: long wavelengths are stretched by `factor`, short ones stay, and those between are
/// blended linearly in original_max_positions / wavelength.
double ScaleLlama3(double frequency, const Llama3RopeScaling& scaling) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const double turns = static_cast<double>(scaling.original_max_positions) / wavelength;
  if (turns > scaling.high_freq_factor) return frequency;
  if (turns < scaling.low_freq_factor) return frequency / scaling.factor;
  const double blend =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - blend) * frequency / scaling.factor + blend * frequency;
}

}  // namespace

std::vector<float> InverseRopeFrequencies(const ModelConfig& config) {
  std::vector<float> frequencies;
  for (std::int32_t i = 0; i < config.head_dim / 2; ++i) {
    const double frequency = std::pow(config.rope_theta, -2.0 * i / config.head_dim);
    const auto scaled = static_cast<float>(
        config.rope_scaling ? ScaleLlama3(frequency, *config.rope_scaling) : frequency);
    frequencies.push_back(config.rope_frequency_dtype == DType::kBF16
                              ? BFloat16::FromFloat(scaled).ToFloat()
                              : scaled);
  }
  return frequencies;
}

}  // namespace longshadow
