#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "engine/row_blocks.h"
#include "longshadow/backend.h"
#include "longshadow/cancellation.h"
#include "longshadow/error.h"

namespace longshadow {

/// One sequence's rows on their way through the layers.
struct StackSequence {
  StackedRows rows;
  KvPages pages;  // over [0, rows.position + rows.rows)
  CancellationFlag* cancellation = nullptr;
  /// Called before a layer reads the sequence's keys; throws kDataLoss.
  std::function<void(std::int32_t)> verify_layer;
  /// Set when the sequence alone failed; its rows are skipped from there on.
  std::optional<Error> error;
};

/// False once the sequence failed, now or before: cancelled, it fails.
inline bool Poll(StackSequence& sequence) {
  if (!sequence.error && sequence.cancellation->cancelled()) {
    sequence.error.emplace(ErrorCode::kCancelled, "the session was cancelled");
  }
  return !sequence.error;
}

/// Lets the sequence check its keys of a layer; it fails where they do not verify.
inline void Verify(StackSequence& sequence, std::int32_t layer) {
  if (!Poll(sequence)) return;
  try {
    sequence.verify_layer(layer);
  } catch (const Error& error) {
    sequence.error = error;
  }
}

/// A piece's rows as a backend wants them: relative to its block.
inline SequenceRows InBlock(const RowBlock& block, const RowPiece& piece,
                            const StackSequence& sequence) {
  return {piece.row_begin - block.row_begin, piece.rows, piece.position, sequence.pages};
}

}  // namespace longshadow
