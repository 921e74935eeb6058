#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "longshadow/backend.h"

namespace longshadow {

/// A query block of a (chunk, layer) that is computed densely too, and the head to compare.
struct GuardSample {
  std::int64_t block = 0;  // of the chunk
  std::int32_t head = 0;   // a query head that chooses keys
};

/// Whether the guard looks at this chunk's layer, and where: of the position, the layer and the
/// policy alone. The n-th part of all (chunk, layer) pairs, spread evenly whatever the length of
/// chunks. blocks: query blocks of the chunk that attend to chosen keys.
std::optional<GuardSample> SampleForGuard(std::int32_t interval,
                                          std::span<const HeadBudget> budgets, std::int64_t begin,
                                          std::int32_t layer, std::int32_t layers,
                                          std::int64_t blocks);

}  // namespace longshadow
