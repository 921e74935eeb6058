#include "engine/sparse_policy.h"

#include <algorithm>
#include <string>

#include "longshadow/block_selection.h"
#include "longshadow/error.h"
#include "longshadow/sparse_selection.h"

namespace longshadow {
namespace {

/// SparseAttention is specified for more rows than this.
constexpr std::int64_t kDecodeRows = 4;

void Require(bool holds, const std::string& message) {
  if (!holds) throw Error(ErrorCode::kInvalidArgument, message);
}

/// Keys that a query row of a head sees, at most.
double KeysOfBudget(const HeadBudget& budget, double keys) {
  const auto columns = static_cast<double>(budget.columns);
  const auto distances = static_cast<double>(budget.distances);
  const double tiles = static_cast<double>(budget.tiles) * static_cast<double>(kBlockTokens);
  double most = keys;
  if (budget.pattern == HeadPattern::kAShape) most = columns + distances;
  if (budget.pattern == HeadPattern::kVerticalSlash) {
    most = columns + distances * static_cast<double>(kBlockTokens);
  }
  if (budget.pattern != HeadPattern::kDense && budget.tiles > 0) most = std::min(most, tiles);
  return std::min(std::max(most, 1.0), keys);
}

bool Estimates(HeadPattern pattern) {
  return pattern != HeadPattern::kDense && pattern != HeadPattern::kAShape;
}

}  // namespace

void CheckSparsePolicy(const SparsePolicy& policy, const EngineInfo& info) {
  const std::int32_t layers = info.layer_end - info.layer_begin;
  const std::int32_t query_heads = info.config.query_heads;
  const std::int64_t heads = std::int64_t{layers} * query_heads;
  Require(static_cast<std::int64_t>(policy.heads.size()) == heads,
          "a sparse policy needs a budget for each of " + std::to_string(layers) + " layers x " +
              std::to_string(query_heads) + " query heads, " + std::to_string(heads) +
              " together; got " + std::to_string(policy.heads.size()));
  Require(policy.dense_below_tokens >= 0, "dense_below_tokens must not be negative");
  Require(policy.guard_interval >= 0, "guard_interval must not be negative; 0 turns it off");
  CheckFlexOptions(policy.flex);
  for (std::int32_t layer = 0; layer < layers; ++layer) {
    try {
      CheckBudgets(LayerBudgets(policy, layer, query_heads));
    } catch (const Error& error) {
      throw Error(error.code(), "layer " + std::to_string(layer) + ": " + error.what());
    }
  }
}

std::int64_t SparseRowsEnd(const PrefillChunkRequest& request) {
  const std::int64_t end = request.begin + static_cast<std::int64_t>(request.token_ids.size());
  if (request.sparse == nullptr || end <= request.sparse->dense_below_tokens) return request.begin;
  return ChoosingRowsEnd(request);
}

std::int64_t ChoosingRowsEnd(const PrefillChunkRequest& request) {
  const std::int64_t end = request.begin + static_cast<std::int64_t>(request.token_ids.size());
  const std::int64_t dense_from = request.dense_from / kBlockTokens * kBlockTokens;
  if (dense_from < end) return std::max(dense_from, request.begin);
  const std::int64_t rest = end % kBlockTokens;
  return rest <= kDecodeRows ? std::max(end - rest, request.begin) : end;
}

std::span<const HeadBudget> LayerBudgets(const SparsePolicy& policy, std::int32_t layer,
                                         std::int32_t query_heads) {
  const auto heads = static_cast<std::size_t>(query_heads);
  return std::span(policy.heads).subspan(static_cast<std::size_t>(layer) * heads, heads);
}

bool AllDense(std::span<const HeadBudget> budgets) {
  return std::all_of(budgets.begin(), budgets.end(), [](const HeadBudget& budget) {
    return budget.pattern == HeadPattern::kDense;
  });
}

double ExpectedAttentionFlops(std::span<const HeadBudget> budgets, std::int32_t head_dim,
                              double rows, double keys) {
  double seen = 0;
  for (const HeadBudget& budget : budgets) seen += KeysOfBudget(budget, keys);
  return 4 * head_dim * rows * seen;
}

double SelectionFlops(std::span<const HeadBudget> budgets, std::int32_t head_dim, double keys) {
  const auto estimated = std::count_if(budgets.begin(), budgets.end(),
                                       [](const HeadBudget& b) { return Estimates(b.pattern); });
  return 4 * head_dim * static_cast<double>(kEstimateRows) * keys * static_cast<double>(estimated);
}

}  // namespace longshadow
