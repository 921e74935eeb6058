#pragma once

#include <cstdint>
#include <span>

#include "cpu_context.h"
#include "longshadow/backend.h"

namespace longshadow::cpu {

/// Scores of columns and diagonals of one backend. See line_estimate.cc.
class LineEstimator {
 public:
  explicit LineEstimator(CpuContext& context) : context_(context) {}

  /// Backend::EstimateLines. interrupt (or null) is polled for every span: kCancelled.
  void Run(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
           std::int32_t layer, const SequenceRows& rows, std::span<const std::int32_t> heads,
           std::span<const LineScores> scores, const CancellationFlag* interrupt);

 private:
  struct Call;

  /// What both passes of one span of one head are told.
  EstimateArgs SpanArgs(const Call& call, std::int64_t head, std::int64_t span,
                        std::int32_t thread);
  /// Makes a head's shifts of its spans' maxima and sums. A NaN becomes one of all shifts.
  void MergeWeights(const Call& call, std::int64_t head);
  /// Adds to a head's diagonals what spans left of those that the span before them owns.
  void MergeEdges(const Call& call, std::int64_t head);

  CpuContext& context_;
  AlignedBuffer weights_;  // [heads][spans][max, sum][64]
  AlignedBuffer shifts_;   // [heads][64]
  AlignedBuffer edges_;    // [heads][spans][64]
};

}  // namespace longshadow::cpu
