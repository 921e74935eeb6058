#pragma once

#include <cstdint>
#include <span>

#include "longshadow/sparse_prefill.h"

namespace longshadow {

/// Rows of a chunk whose attention is counted: [begin, sparse_end) attended to chosen keys,
/// [sparse_end, end) to all. begin and sparse_end are multiples of kBlockTokens, or end.
struct CountedRows {
  std::int64_t begin = 0;
  std::int64_t sparse_end = 0;
  std::int64_t end = 0;
};

/// Adds what one layer attended to. stats has a place for the layer.
/// attended: [query heads], keys of the sparse rows; budgets: [query heads].
void CountLayerKeys(std::int32_t layer, const CountedRows& rows,
                    std::span<const HeadBudget> budgets, std::span<const std::int64_t> attended,
                    SparseStats& stats);

/// Adds what one layer of dense rows attended to.
void CountDenseLayerKeys(std::int32_t layer, std::int64_t begin, std::int64_t end,
                         std::int32_t query_heads, SparseStats& stats);

/// Of nothing yet, with a place for each layer of the stage.
SparseStats StatsOfLayers(std::int32_t layers);

}  // namespace longshadow
