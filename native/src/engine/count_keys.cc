#include "engine/count_keys.h"

#include <algorithm>

namespace longshadow {
namespace {

/// Keys that dense attention of one head sees in rows [begin, end), by query block.
std::int64_t CausalKeys(std::int64_t begin, std::int64_t end) {
  std::int64_t keys = 0;
  for (std::int64_t block = begin; block < end; block += kBlockTokens) {
    keys += std::min(block + kBlockTokens, end);
  }
  return keys;
}

struct Count {
  HeadPattern pattern = HeadPattern::kDense;
  std::int64_t attended = 0;
  std::int64_t causal = 0;
};

void Add(std::int32_t layer, const Count& count, SparseStats& stats) {
  const auto place = static_cast<std::size_t>(layer);
  const auto pattern = static_cast<std::size_t>(count.pattern);
  stats.attended_keys[pattern] += count.attended;
  stats.causal_keys[pattern] += count.causal;
  stats.layer_attended_keys[place] += count.attended;
  stats.layer_causal_keys[place] += count.causal;
}

}  // namespace

void CountLayerKeys(std::int32_t layer, const CountedRows& rows,
                    std::span<const HeadBudget> budgets, std::span<const std::int64_t> attended,
                    SparseStats& stats) {
  const std::int64_t causal = CausalKeys(rows.begin, rows.sparse_end);
  for (std::size_t head = 0; head < budgets.size(); ++head) {
    Add(layer, {budgets[head].pattern, attended[head], causal}, stats);
  }
  CountDenseLayerKeys(layer, rows.sparse_end, rows.end, static_cast<std::int32_t>(budgets.size()),
                      stats);
}

void CountDenseLayerKeys(std::int32_t layer, std::int64_t begin, std::int64_t end,
                         std::int32_t query_heads, SparseStats& stats) {
  const std::int64_t keys = query_heads * CausalKeys(begin, end);
  Add(layer, {HeadPattern::kDense, keys, keys}, stats);
}

SparseStats StatsOfLayers(std::int32_t layers) {
  SparseStats stats;
  stats.layer_attended_keys.assign(static_cast<std::size_t>(layers), 0);
  stats.layer_causal_keys.assign(static_cast<std::size_t>(layers), 0);
  return stats;
}

}  // namespace longshadow
