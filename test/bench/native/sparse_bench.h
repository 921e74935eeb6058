#pragma once

#include <cstdint>

#include "longshadow/backend.h"

namespace longshadow::bench {

/// Prints one JSON line a case of sparse attention: its GFLOP/s over the keys of the index, those
/// of dense attention, which runs in turn with it, and their ratio.
void SparseAttentions(Backend& backend, std::int32_t threads);

}  // namespace longshadow::bench
