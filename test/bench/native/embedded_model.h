#pragma once

#include <cstdint>

/// Shape of models/needle, whose products and attention the benchmarks time.
namespace longshadow::bench::embedded_model {

inline constexpr std::int64_t kHidden = 384;
inline constexpr std::int64_t kFfn = 1024;
inline constexpr std::int64_t kVocabulary = 4096;
inline constexpr std::int32_t kQueryHeads = 4;
inline constexpr std::int32_t kKvHeads = 2;
inline constexpr std::int32_t kHeadDim = 64;

}  // namespace longshadow::bench::embedded_model
