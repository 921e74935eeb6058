#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "longshadow/cancellation.h"
#include "longshadow/dtype.h"
#include "longshadow/kv_pages.h"
#include "longshadow/sparse_prefill.h"

namespace longshadow {

/// A row-major matrix in a backend's memory: [rows, cols], rows `stride` elements apart.
struct MatrixView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;
};

/// A read-only matrix, for weights and inputs. Same meaning as MatrixView.
struct ConstMatrixView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  ConstMatrixView() = default;
  ConstMatrixView(const void* d, DType t, std::int64_t r, std::int64_t c, std::int64_t s)
      : data(d), dtype(t), rows(r), cols(c), stride(s) {}
  ConstMatrixView(const MatrixView& m)  // NOLINT: a view of a view
      : data(m.data), dtype(m.dtype), rows(m.rows), cols(m.cols), stride(m.stride) {}
};

/// A weight matrix in the form a backend multiplies fastest. Shape [out, in]; the elements keep
/// the precision of the file (a bf16 model is never expanded to fp32 as a whole).
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;
  virtual std::int64_t out_features() const = 0;
  virtual std::int64_t in_features() const = 0;
  virtual std::int64_t bytes() const = 0;
};

/// Which heads a layer has and how its queries scale.
struct AttentionShape {
  std::int32_t query_heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;  // 8..256, a multiple of 8; fast for 64, 96 and 128
  float scale = 0;            // head_dim^-0.5
};

/// Rotary position embedding of one model: half-split pairs (x_i, x_{i + rotary_dim/2}).
/// Angles are position * inv_freq[i] in fp32 with full range reduction.
struct RopeTable {
  std::span<const float> inv_freq;  // [rotary_dim / 2]
  float attention_factor = 1.0F;    // multiplies cos and sin
};

/// One session's rows inside a batch of rows: rows [row_begin, row_begin + rows) of the
/// activations are positions [position, position + rows) of the session behind `pages`.
struct SequenceRows {
  std::int64_t row_begin = 0;
  std::int64_t rows = 0;
  std::int64_t position = 0;
  KvPages pages;
};

/// Where tensors live and operations run; one instance a device. Shapes are given where they are
/// used; every offset that scales with tokens is 64-bit. Pointers belong to this backend's memory
/// space. Calls run in order and may return early; Synchronize() waits. Not thread-safe: the
/// engine serialises access. Accumulation, softmax and rope angles are fp32 (reference: fp64).
///
/// On `cpu` and `reference` the bits of a row never depend on which other rows are in the call.
class Backend {
 public:
  virtual ~Backend() = default;

  /// "cpu", "reference" or "cuda:<ordinal>".
  virtual std::string_view Name() const = 0;
  /// The code path chosen at run time: "avx512_bf16", "avx512", "avx2" or "generic".
  virtual std::string_view InstructionSet() const = 0;

  /// 64-byte-aligned scratch for activations; freed by Free. Throws kInternal when out of memory.
  virtual void* Allocate(std::int64_t bytes) = 0;
  virtual void Free(void* data) = 0;

  /// Packs a weight matrix [out, in] (f32 or bf16, memory-mapped; not kept).
  /// `compute` is the dtype that activations will have: kBF16 or kF32.
  virtual std::unique_ptr<PackedMatrix> Pack(ConstMatrixView weight, DType compute) = 0;

  /// y[n, out] = x[n, in] W^T, or y += x W^T when `accumulate`. x has the pack's compute dtype,
  /// y is f32.
  virtual void MatMul(ConstMatrixView x, const PackedMatrix& weight, MatrixView y,
                      bool accumulate) = 0;

  /// x[n, hidden] f32 = rows `ids` of table [vocab, hidden] (f32 or bf16).
  virtual void Embed(ConstMatrixView table, std::span<const std::uint32_t> ids, MatrixView x) = 0;

  /// out[n, hidden] = x / sqrt(mean(x^2) + eps) * weight; x f32, weight [hidden] f32, out f32 or
  /// bf16 (rounded once).
  virtual void RmsNorm(ConstMatrixView x, std::span<const float> weight, float eps,
                       MatrixView out) = 0;

  /// Rotates q and k of qkv [n, (query_heads + 2 kv_heads) * head_dim] f32 at their positions and
  /// writes q [n, query_heads * head_dim] (compute dtype) and the rows' K (post-rope) and V into
  /// `layer` of each sequence's pages (geometry.dtype). A row's page must exist.
  virtual void RopeAndStore(ConstMatrixView qkv, const AttentionShape& shape, const RopeTable& rope,
                            const KvGeometry& geometry, std::int32_t layer,
                            std::span<const SequenceRows> sequences, MatrixView q) = 0;

  /// Exact causal attention: the row at position p of a sequence attends to keys [0, p] of
  /// `layer` of its pages. q and out are [n, query_heads * head_dim] in the compute dtype.
  /// Few rows a sequence (decode) and many (prefill) take different kernels; the choice depends
  /// on that sequence's own rows alone. A NaN in q, or in a key that a row sees, makes the row's
  /// output NaN. V must be finite in every row of the call: a value that is not may reach earlier
  /// rows of the call too, since a kernel may weigh a later row's value with 0.
  virtual void Attention(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                         std::int32_t layer, std::span<const SequenceRows> sequences,
                         MatrixView out) = 0;

  /// Scores of columns and diagonals of the query heads `heads` for sparse prefill, estimated from
  /// all rows of `rows` (1 to kEstimateRows of them; q as in Attention). scores: one a head, each
  /// span as long as the keys that the last row sees. Two passes over the keys; the score matrix is
  /// never stored. A NaN in q or in a key makes every score of the head NaN.
  virtual void EstimateLines(ConstMatrixView q, const AttentionShape& shape,
                             const KvGeometry& geometry, std::int32_t layer,
                             const SequenceRows& rows, std::span<const std::int32_t> heads,
                             std::span<const LineScores> scores) = 0;

  /// Chooses the keys of every query head for a chunk: `chunk` names all of its rows, q holds them,
  /// and K of them is stored. chunk.position is a multiple of kBlockTokens. Estimates from the last
  /// min(kEstimateRows, rows) rows. budgets: one a query head.
  /// Throws kInvalidArgument for a budget that is negative or that its pattern lacks. interrupt (or
  /// null) is polled every few milliseconds: kCancelled.
  virtual std::unique_ptr<SparseSelection> SelectKeys(
      ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
      std::int32_t layer, const SequenceRows& chunk, std::span<const HeadBudget> budgets,
      const FlexOptions& flex, const CancellationFlag* interrupt = nullptr) = 0;
  /// A selection that was made elsewhere. Throws kInvalidArgument where it breaks KeySelection's
  /// rules or has not `query_heads` heads.
  virtual std::unique_ptr<SparseSelection> UploadSelection(const KeySelection& selection,
                                                           std::int32_t query_heads) = 0;

  /// Makes the index of rows [position, position + rows) of the selection's chunk, in place of the
  /// last one. position is a multiple of kBlockTokens.
  virtual void IndexRows(SparseSelection& selection, std::int64_t position, std::int64_t rows) = 0;

  /// As Attention for one sequence of more than 4 rows, but a row at position p sees of keys [0, p]
  /// only those in the index of its query block: `rows` must be those of the last IndexRows. With
  /// everything selected the result equals Attention's to rounding. Adds to the selection's
  /// AttendedKeys.
  virtual void SparseAttention(ConstMatrixView q, const AttentionShape& shape,
                               const KvGeometry& geometry, std::int32_t layer,
                               const SequenceRows& rows, SparseSelection& selection,
                               MatrixView out) = 0;

  /// out[n, ffn] = silu(gate) * up of gate_up [n, 2 * ffn] f32 (gate first); out compute dtype.
  virtual void SiluMul(ConstMatrixView gate_up, MatrixView out) = 0;

  /// Natural-log probability and rank (1 = the largest; ties by lower id) of targets[i] under
  /// softmax of row i of logits [n, vocab] f32.
  virtual void TokenLogprobs(ConstMatrixView logits, std::span<const std::uint32_t> targets,
                             std::span<float> logprobs, std::span<std::uint32_t> ranks) = 0;

  /// Waits for queued work. Throws what any of it failed with.
  virtual void Synchronize() = 0;
};

/// The one place that knows which backends were compiled in: "cpu", "reference".
/// threads: 0 for one a core. Throws kUnsupported for a device that was not compiled in.
/// LONGSHADOW_CPU_ISA = avx2 | avx512 | avx512_bf16 forces a path of `cpu`; an unknown value, or
/// one this CPU lacks, throws kUnsupported.
std::unique_ptr<Backend> MakeBackend(std::string_view device, std::int32_t threads);

}  // namespace longshadow
