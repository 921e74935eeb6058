#pragma once

#include <cstdint>
#include <span>

#include "longshadow/backend.h"
#include "longshadow/engine.h"

namespace longshadow {

/// The position at which a chunk's sparse rows end: those before it attend to chosen keys, the
/// others to all. The chunk's begin where the whole chunk is dense. A multiple of kBlockTokens, or
/// the chunk's end.
std::int64_t SparseRowsEnd(const PrefillChunkRequest& request);

/// As SparseRowsEnd of a chunk that is sparse, whatever its policy.
std::int64_t ChoosingRowsEnd(const PrefillChunkRequest& request);

/// The budgets of one layer of the stage: one a query head.
std::span<const HeadBudget> LayerBudgets(const SparsePolicy& policy, std::int32_t layer,
                                         std::int32_t query_heads);

/// No head of the layer chooses keys.
bool AllDense(std::span<const HeadBudget> budgets);

/// Arithmetic that the heads of a layer spend on `rows` query rows that would see `keys` keys each
/// if they were dense: for progress, before anything is chosen.
double ExpectedAttentionFlops(std::span<const HeadBudget> budgets, std::int32_t head_dim,
                              double rows, double keys);

/// Arithmetic of choosing a layer's keys: two passes over `keys` keys for each head that estimates.
double SelectionFlops(std::span<const HeadBudget> budgets, std::int32_t head_dim, double keys);

}  // namespace longshadow
