#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "longshadow/kv_pages.h"

namespace longshadow {

struct AttentionShape;
struct ConstMatrixView;
struct MatrixView;
struct RopeTable;

/// ShadowKV's thresholds (arXiv:2410.21465), resolved: nothing here depends on the host.
struct ShadowPolicy {
  /// A prompt of fewer tokens keeps its exact keys. At least kValueChunkTokens.
  std::int64_t min_tokens = 4096;
  /// Value chunks that a kv head chooses at a step. At least 1.
  std::int64_t sparse_chunks = 256;
  /// Value chunks of each kv head whose keys stay exact: those that their mean stands for worst.
  std::int64_t outlier_chunks = 48;
  /// Last tokens whose keys stay exact, rounded up so that chunks before them are whole.
  std::int64_t local_tokens = 32;
  /// Columns of the key factors: of every layer, or, by spectrum, on average over the layers.
  std::int32_t rank = 160;
  bool rank_by_spectrum = true;
};

/// The least exact tail that local_tokens gives a session of `tokens` tokens: what is left after
/// [0, 8 n), n = floor((tokens - local_tokens) / 8).
std::int64_t ShadowLocalBegin(const ShadowPolicy& policy, std::int64_t tokens);

/// The spectrum of one layer's Gram matrix: its largest eigenvalues, descending, and its trace.
struct KeySpectrum {
  std::vector<double> eigenvalues;
  double energy = 0;
};

/// How the columns of the factors are shared out over layers. Fixed: policy.rank each, no more than
/// the width. By spectrum: in steps of 8 columns, each to the layer whose share of unexplained
/// energy falls most by it (ties: the lower layer), at least 8 a layer, until layers * policy.rank
/// columns are given or every layer has `width`.
std::vector<std::int32_t> ShareRanks(const ShadowPolicy& policy, std::int32_t width,
                                     std::span<const KeySpectrum> spectra);

/// Rows [begin, end) of one layer's key pages; row r holds position r + shift.
struct LayerKeys {
  KvPages pages;
  std::int32_t layer = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t shift = 0;  // a multiple of kValueChunkTokens
};

/// Where a cache's value chunks lie, by position: pages as KvPages::v has them.
/// Read-only mapped segments, then private pages.
struct ValuePages {
  std::span<std::byte* const> v;
};

/// One layer of the compressed keys: what the seal made of it, or what grew since.
/// All in the storage dtype of the geometry (bf16, or fp32 for tests) unless said otherwise.
struct LayerFactors {
  std::int32_t rank = 0;
  const void* basis = nullptr;  // B: [kv_heads][rank][head_dim]
  /// A: page p holds positions [512 p, 512 p + 512), [512][rank].
  std::span<std::byte* const> factor_pages;
  /// Page p holds the value chunks [64 p, 64 p + 64), [kv_heads][64][head_dim].
  std::span<std::byte* const> landmark_pages;
  /// One bit a chunk, by kv head: [kv_heads][ceil(chunks / 64)]; set: the chunk is an outlier and
  /// is never scored.
  std::span<const std::uint64_t> outliers;
};

/// The rows that a session's queries attend to under ShadowKV, as KV pages of their own, with the
/// geometry of the session:
///
///   [0, 8 O)            outlier chunks, K exact
///   [8 O, 8 (O + S))    chosen chunks: slot s of (layer, kv head) holds one, K rebuilt
///   [8 (O + S), ...)    the exact tail: chunks that the factors stand for badly, then local,
///   appended
///                       and generated tokens in order of position
///
/// Keys are post-rope, so that order means nothing but to the causal mask of the tail. Attention
/// over it is the exact operation: what is new is which rows lie in it. Slots are a layer's and kv
/// head's own, tail rows are the same for all.
struct ShadowRows {
  std::int64_t row_begin = 0;  // of q
  std::int64_t rows = 0;       // queries that choose together: kSelectionRows at most
  KvPages buffer;
  std::int64_t outlier_chunks = 0;  // O: may be less than the policy's in a short session
  std::int64_t sparse_chunks = 0;   // S: as above
  std::int64_t chunks = 0;          // that may be chosen: positions [0, 8 chunks)
  LayerFactors factors;
  ValuePages values;
  /// Which chunk lies in a slot: [kv_heads][S], kNoChunk for none. Read and written.
  std::span<std::uint32_t> slots;
};
inline constexpr std::uint32_t kNoChunk = 0xffffffffU;

/// Rows of a turn that are appended together choose chunks together, in groups of so many.
inline constexpr std::int64_t kSelectionRows = 16;

/// What choosing did, summed over kv heads.
struct ShadowStats {
  std::int64_t chosen_chunks = 0;
  std::int64_t hit_chunks = 0;     // of them, those that lay in their slots already
  std::int64_t fetched_bytes = 0;  // of values
  std::int64_t select_micros = 0;  // scores and choice
  std::int64_t rebuild_micros = 0;
  ShadowStats& operator+=(const ShadowStats& other);
};

/// ShadowKV's operations on one device (arXiv:2410.21465, 3 and 4). As Backend's: pointers are in
/// the backend's memory, calls run in order, accumulation is fp32 (reference: fp64), and on `cpu`
/// and `reference` bits depend neither on threads nor on what else is in the call.
class ShadowOperations {
 public:
  virtual ~ShadowOperations() = default;

  /// gram [width, width] f32 += K_pre^T K_pre over the keys' positions, width = kv_heads *
  /// head_dim, kv head h in columns [h * head_dim, (h + 1) * head_dim). K_pre is the stored key
  /// rotated back at its position. Both triangles are written.
  virtual void AddGram(const KvGeometry& geometry, const LayerKeys& keys, const RopeTable& rope,
                       MatrixView gram) = 0;

  /// Rows of A: K_pre V_r for the keys' positions, into the factor pages that hold them.
  /// basis: B of the layer, so that row t of A is sum over kv heads of k_pre[t, h] B[h]^T.
  /// residuals: empty, or [end - begin] f32: |k_pre - a B| / |k_pre| of the row over all heads.
  ///
  /// Pages of factors and landmarks are those of positions, not of rows.
  virtual void ProjectKeys(const KvGeometry& geometry, const LayerKeys& keys, const RopeTable& rope,
                           std::int32_t rank, const void* basis,
                           std::span<std::byte* const> factor_pages,
                           std::span<float> residuals) = 0;

  /// Landmarks of the value chunks in [begin, end) (multiples of 8): the mean of the chunk's
  /// post-rope keys, into the landmark pages; and likeness [kv_heads][(end - begin) / 8] f32: the
  /// least cosine between the mean (before it is rounded) and one of its keys.
  virtual void SummariseChunks(const KvGeometry& geometry, const LayerKeys& keys,
                               std::span<std::byte* const> landmark_pages,
                               std::span<float> likeness) = 0;

  /// For each sequence: scores every chunk that is no outlier by max over the query heads of a kv
  /// head of sum over rows of softmax(q . landmark * scale) over those chunks; takes the S largest
  /// of each kv head (ties: the lower chunk); leaves those in their slots that are there, puts the
  /// others into the free slots in ascending order of chunk and slot; rebuilds the keys of these
  /// (A B, fp32, rotated at their positions, rounded once) and copies their values.
  /// Adds to stats, one a sequence. q as in Backend::Attention.
  virtual void ChooseChunks(ConstMatrixView q, const AttentionShape& shape,
                            const KvGeometry& geometry, std::int32_t layer, const RopeTable& rope,
                            std::span<const ShadowRows> sequences,
                            std::span<ShadowStats> stats) = 0;
};

}  // namespace longshadow
