// Heads that are estimated take turns, a few at a time: their scores are 8 bytes for each key and
// head, 8 MiB a head at a million keys. Each head then chooses its lines on one thread. Heads that
// choose key blocks by pooled queries and keys have those pooled first, all heads at once.
#include "key_selection.h"

#include <algorithm>
#include <utility>

namespace longshadow::cpu {
namespace {

/// Heads estimated together: a whole number for each thread, and at least 4.
std::int64_t HeadsTogether(std::int64_t threads) { return threads * ((4 + threads - 1) / threads); }

}  // namespace

struct KeySelector::Call {
  const ConstMatrixView& q;
  const AttentionShape& shape;
  const KvGeometry& geometry;
  std::int32_t layer;
  const SequenceRows& chunk;
  std::span<const HeadBudget> budgets;
  const FlexOptions& flex;
  const CancellationFlag* interrupt;
};

void KeySelector::ChooseByEstimate(const Call& call, std::span<const std::int32_t> estimated,
                                   KeySelection& selection) {
  const SequenceRows& chunk = call.chunk;
  const std::int64_t rows = std::min(kEstimateRows, chunk.rows);
  const std::int64_t before = chunk.rows - rows;
  const SequenceRows last{chunk.row_begin + before, rows, chunk.position + before, chunk.pages};
  const auto keys = static_cast<std::size_t>(chunk.position + chunk.rows);
  const auto together = static_cast<std::size_t>(HeadsTogether(context_.pool.threads()));
  for (std::size_t begin = 0; begin < estimated.size(); begin += together) {
    const auto heads = estimated.subspan(begin, std::min(together, estimated.size() - begin));
    auto* memory = reinterpret_cast<float*>(
        scores_.Reserve(static_cast<std::int64_t>(heads.size() * 2 * keys * sizeof(float))));
    std::vector<LineScores> scores;
    for (std::size_t i = 0; i < heads.size(); ++i) {
      scores.push_back({{memory + 2 * i * keys, keys}, {memory + (2 * i + 1) * keys, keys}});
    }
    estimator_.Run(call.q, call.shape, call.geometry, call.layer, last, heads, scores,
                   call.interrupt);
    context_.pool.Run(static_cast<std::int64_t>(heads.size()), [&](std::int64_t i,
                                                                   std::int32_t thread) {
      ThrowIfCancelled(call.interrupt);
      const auto at = static_cast<std::size_t>(i);
      const auto head = static_cast<std::size_t>(heads[at]);
      const HeadBudget& budget = call.budgets[head];
      selection.heads[head] = budget.pattern == HeadPattern::kFlex
                                  ? blocks_.Flex(heads[at], scores[at], budget, call.flex, thread)
                                  : VerticalSlashSelection(scores[at], budget);
    });
  }
}

std::unique_ptr<SparseSelection> KeySelector::Select(ConstMatrixView q, const AttentionShape& shape,
                                                     const KvGeometry& geometry, std::int32_t layer,
                                                     const SequenceRows& chunk,
                                                     std::span<const HeadBudget> budgets,
                                                     const FlexOptions& flex,
                                                     const CancellationFlag* interrupt) {
  ThrowIfCancelled(interrupt);
  Require(static_cast<std::int64_t>(budgets.size()) == shape.query_heads,
          "SelectKeys: one budget a query head");
  Require(chunk.rows > 0 && chunk.position >= 0 && chunk.position % kBlockTokens == 0,
          "SelectKeys: a chunk begins at a multiple of 64 and has rows");
  CheckBudgets(budgets);
  CheckFlexOptions(flex);
  const std::int64_t keys = chunk.position + chunk.rows;
  KeySelection selection{chunk.position, chunk.rows, {}};
  selection.heads.resize(budgets.size());
  std::vector<std::int32_t> estimated;
  std::vector<std::int32_t> pooled;
  std::vector<std::int32_t> block_sparse;
  std::vector<std::int32_t> bounded;
  for (std::size_t h = 0; h < budgets.size(); ++h) {
    const auto head = static_cast<std::int32_t>(h);
    switch (budgets[h].pattern) {
      case HeadPattern::kDense:
        break;
      case HeadPattern::kAShape:
        selection.heads[h] = AShapeSelection(budgets[h], keys);
        break;
      case HeadPattern::kVerticalSlash:
        estimated.push_back(head);
        break;
      case HeadPattern::kBlockSparse:
        pooled.push_back(head);
        block_sparse.push_back(head);
        break;
      case HeadPattern::kFlex:
        pooled.push_back(head);
        estimated.push_back(head);
        break;
      case HeadPattern::kKeyBounds:
        bounded.push_back(head);
        break;
    }
  }
  if (!pooled.empty()) blocks_.Pool(q, shape, geometry, layer, chunk, pooled, interrupt);
  context_.pool.Run(std::ssize(block_sparse), [&](std::int64_t i, std::int32_t thread) {
    const std::int32_t head = block_sparse[static_cast<std::size_t>(i)];
    const auto at = static_cast<std::size_t>(head);
    selection.heads[at] = blocks_.BlockSparse(head, budgets[at], thread);
  });
  if (!bounded.empty()) {
    auto chosen = bounds_.Select(q, shape, geometry, layer, chunk, bounded, budgets, interrupt);
    for (std::size_t i = 0; i < bounded.size(); ++i) {
      selection.heads[static_cast<std::size_t>(bounded[i])] = std::move(chosen[i]);
    }
  }
  ChooseByEstimate({q, shape, geometry, layer, chunk, budgets, flex, interrupt}, estimated,
                   selection);
  return std::make_unique<HostSelection>(std::move(selection));
}

std::unique_ptr<SparseSelection> UploadSelection(const KeySelection& selection,
                                                 std::int32_t query_heads) {
  CheckSelection(selection, query_heads);
  return std::make_unique<HostSelection>(selection);
}

void IndexRows(SparseSelection& selection, std::int64_t position, std::int64_t rows) {
  HostSelection& host = HostSelection::Of(selection);
  host.index = BuildIndex(host.keys, position, rows);
}

}  // namespace longshadow::cpu
