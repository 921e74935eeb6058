#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "longshadow/session_kv.h"
#include "longshadow/shadow_kv.h"

namespace longshadow {

/// Shape of what ShadowKV's seal writes beside a session's segments.
struct GenerationSpec {
  ShadowPolicy policy;
  std::int64_t tokens = 0;          // of the prompt
  std::int64_t chunks = 0;          // value chunks that may be chosen: [0, 8 chunks)
  std::int64_t outlier_chunks = 0;  // of each kv head and layer
  std::vector<std::int32_t> ranks;  // [layers]
  std::vector<float> residuals;     // [layers]: sqrt of the share of energy that the factors leave
};

/// A generation being written: one file of the value store, `<epoch>-<stage>-0-<tokens>.g`.
/// Sections lie at multiples of 64 bytes behind a header and a table of CRC32Cs, one a (layer,
/// section), of factors and landmarks one a (layer, page). Made by PrefillSession::BeginGeneration;
/// space is taken with posix_fallocate before use; the file is renamed when complete.
class GenerationWriter {
 public:
  virtual ~GenerationWriter() = default;
  virtual const GenerationSpec& spec() const = 0;
  virtual std::byte* Basis(std::int32_t layer) = 0;              // [kv_heads][rank][head_dim]
  virtual std::uint32_t* OutlierChunks(std::int32_t layer) = 0;  // [kv_heads][O], ascending
  virtual std::byte* OutlierKeys(std::int32_t layer) = 0;        // [kv_heads][O][8][head_dim]
  virtual std::byte* TailKeys(std::int32_t layer) = 0;  // [kv_heads][tokens - 8 chunks][head_dim]
  /// Page tables over positions [0, 8 chunks).
  virtual std::span<std::byte* const> FactorPages(std::int32_t layer) = 0;
  virtual std::span<std::byte* const> LandmarkPages(std::int32_t layer) = 0;
  /// Checksums, syncs the header and renames. The hand-off of the session's next Seal lists the
  /// generation instead of the key files.
  virtual std::int64_t Finish() = 0;  // bytes of the file
};

/// A session that decodes under ShadowKV: values in mapped segments and private pages, keys as a
/// generation, and the rows that attention sees in a buffer (ShadowRows). DecodeSession::shadow()
/// of such a session; its Extend and Commit then deal in buffer pages.
class ShadowSession {
 public:
  virtual ~ShadowSession() = default;
  virtual const ShadowPolicy& policy() const = 0;

  /// The buffer's row of the first position that the last Extend made room for: row + shift ==
  /// position.
  virtual std::int64_t extend_row() const = 0;
  /// What `layer` chooses from and into; row_begin and rows are the caller's to set. Valid until
  /// the next Extend or CloseTail.
  virtual ShadowRows Rows(std::int32_t layer) = 0;

  /// Whole value chunks at the front of the tail that may be closed: those before the last
  /// local_tokens, once there are kCloseTokens of them; else none.
  struct Closing {
    std::int64_t position = 0;  // of the first, a multiple of 8
    std::int64_t chunks = 0;
    std::int64_t row = 0;  // of the first in the buffer
  };
  virtual Closing ClosableTail() const = 0;
  /// Room for the chunks' factors, landmarks and values: pages that may be written over
  /// [closing.position, + 8 chunks). Returns the page tables of a layer.
  struct Room {
    std::span<std::byte* const> factor_pages;
    std::span<std::byte* const> landmark_pages;
  };
  virtual Room MakeRoom(std::int32_t layer, const Closing& closing) = 0;
  /// Takes the chunks out of the tail: their values go to the value pages and the rows behind move
  /// up. keep: [chunks]; chunks that are kept stay in the buffer, exact, and are never chosen.
  virtual void CloseTail(const Closing& closing, std::span<const bool> keep) = 0;

  virtual ShadowStats& stats() = 0;
  /// Bytes that this process holds for keys: factors, landmarks, outliers and the buffer.
  virtual std::int64_t decode_bytes() const = 0;
  /// Bytes of values in host memory, mapped and private.
  virtual std::int64_t host_bytes() const = 0;
};
inline constexpr std::int64_t kCloseTokens = 256;

}  // namespace longshadow
