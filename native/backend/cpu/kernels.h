#pragma once

#include <cstddef>
#include <cstdint>

/// What one instruction set offers to the rest of the backend: single-threaded pieces of work
/// behind plain function pointers. Nothing here may hold inline code that could be compiled with
/// different -m flags in different files: plain structs and pointers only.
namespace longshadow::cpu {

/// Output features of one weight panel. Packed weights are [out / 64][...][64][...].
inline constexpr std::int64_t kPanel = 64;
/// Input features whose fp32 weights of a panel fill two thirds of a first-level cache of 48 KiB.
inline constexpr std::int64_t kGemmSlice = 128;
/// Keys of one attention tile, except of prefill in fp32; divides a page.
inline constexpr std::int64_t kTileKeys = 128;
/// Query rows of one prefill attention task.
inline constexpr std::int64_t kBlockRows = 64;

/// Rows [0, rows) of x times one weight panel, into y's columns of that panel.
/// Every element is one chain of fused multiply-adds over ascending input features (pairs of
/// features with bf16 dot products), whatever `rows` is: a row's bits depend on that row alone.
struct GemmArgs {
  const void* x = nullptr;  // [rows, in], f32, or bf16 for gemm_bf16
  std::int64_t x_stride = 0;
  std::int64_t rows = 0;
  std::int64_t in = 0;
  const void* panel = nullptr;  // [in][64]; gemm_bf16: [in / 2][64][2]
  bool panel_bf16 = false;      // gemm_f32: the panel's elements are bf16
  /// gemm_f32 of many rows: (rows + kGemmSlice) * kPanel floats, 64-byte aligned. Null: few rows,
  /// which convert bf16 weights in registers.
  float* scratch = nullptr;
  float* y = nullptr;  // [rows, columns]
  std::int64_t y_stride = 0;
  std::int64_t columns = 0;  // 1..64
  bool accumulate = false;
};

/// Causal attention of a block of rows of one sequence, for the query heads of one kv head.
struct PrefillArgs {
  const void* q = nullptr;  // first row, first head of the group: [rows][heads][head_dim]
  void* out = nullptr;
  std::int64_t q_stride = 0;  // elements between rows
  std::int64_t out_stride = 0;
  bool q_bf16 = false;
  bool out_bf16 = false;
  bool kv_bf16 = false;
  std::int32_t head_dim = 0;
  std::int32_t heads = 0;  // of the group
  float scale = 0;
  std::int64_t position = 0;  // of the first row
  std::int32_t rows = 0;      // 1..kBlockRows
  std::byte* const* k_pages = nullptr;
  std::byte* const* v_pages = nullptr;
  std::int64_t plane_offset = 0;
  void* scratch = nullptr;  // PrefillScratchBytes, 64-byte aligned
};

/// Attention of a query block over keys of its own, for one query head. A row sees of them those
/// that are not after it. See SparseIndex.
struct SparseArgs {
  PrefillArgs block;                      // heads = 1; scratch: sparse_scratch_bytes
  const std::uint32_t* ranges = nullptr;  // [range_count][2]: the first key, the one after the last
  std::int64_t range_count = 0;
  const std::uint32_t* columns = nullptr;
  std::int64_t column_count = 0;
};

/// Attention of a few rows over keys [key_begin, key_end) of one kv head, unnormalised.
struct DecodeArgs {
  const void* q = nullptr;  // as PrefillArgs
  std::int64_t q_stride = 0;
  bool q_bf16 = false;
  bool kv_bf16 = false;
  std::int32_t head_dim = 0;
  std::int32_t heads = 0;
  float scale = 0;
  std::int64_t position = 0;
  std::int32_t rows = 0;
  std::byte* const* k_pages = nullptr;
  std::byte* const* v_pages = nullptr;
  std::int64_t plane_offset = 0;
  std::int64_t key_begin = 0;  // a multiple of a page
  std::int64_t key_end = 0;
  float* o = nullptr;       // [rows * heads][head_dim]: sum of p v
  float* max = nullptr;     // [rows * heads]: largest score * scale * log2(e); -1e30: no key
  float* sum = nullptr;     // [rows * heads]: sum of p = 2^(score - max)
  void* scratch = nullptr;  // DecodeScratchBytes, 64-byte aligned
};

/// Masses of columns and diagonals for the last rows of a chunk: one query head over one span of
/// keys. The distance of row i and key c is position + i - c.
struct EstimateArgs {
  const void* q = nullptr;    // first row, this head: [rows][head_dim]
  std::int64_t q_stride = 0;  // elements between rows
  bool q_bf16 = false;
  bool kv_bf16 = false;
  std::int32_t head_dim = 0;
  float scale = 0;
  std::int64_t position = 0;  // of the first row
  std::int32_t rows = 0;      // 1..kBlockRows
  std::byte* const* k_pages = nullptr;
  std::int64_t plane_offset = 0;
  std::int64_t key_begin = 0;  // a multiple of a page
  std::int64_t key_end = 0;
  /// estimate_weights writes [64] each: a number near the largest score * scale * log2(e), and the
  /// sum of 2^(score - max) over the span. A NaN in q or a key: in the sum.
  float* max = nullptr;
  float* sum = nullptr;
  /// estimate_lines reads [64]: -log2 of the sum over all keys of 2^score; -1e30: no row.
  const float* shift = nullptr;
  float* vertical = nullptr;  // [position + rows], written at the span's keys
  float* slash = nullptr;     // [position + rows], written at row 0's distances to those keys
  /// [64]: the span's part of the next larger distances, which the span before it writes to slash.
  /// Null: there is none before it, and they go to slash.
  float* edge = nullptr;
  void* scratch = nullptr;  // estimate_scratch_bytes, 64-byte aligned
};

/// One row of rope: cos and sin are [half] and hold the attention factor already.
struct RopeRowArgs {
  const float* cos = nullptr;
  const float* sin = nullptr;
  std::int32_t half = 0;  // rotary_dim / 2
  std::int32_t head_dim = 0;
};

/// out[d] = factor * the sum of `count` rows' element d, added in ascending order.
struct MeanArgs {
  const void* rows = nullptr;  // f32 or bf16
  bool bf16 = false;
  std::int64_t stride = 0;  // elements between rows
  std::int64_t count = 0;
  std::int64_t dim = 0;
  float factor = 0;
  float* out = nullptr;  // [dim]
};

/// Bounds of `count` rows, element by element: with lo and hi the least and the greatest of
/// element d, middle[d] = (lo + hi) / 2 and reach[d] = (hi - lo) / 2. NaN where a row has NaN or an
/// infinity.
struct BoundArgs {
  const void* rows = nullptr;  // f32 or bf16
  bool bf16 = false;
  std::int64_t stride = 0;  // elements between rows
  std::int64_t count = 0;
  std::int64_t dim = 0;
  float* middle = nullptr;  // [dim]
  float* reach = nullptr;   // [dim]
};

/// Scores key blocks for the queries of one query block, by bounds of their groups (kKeyBounds).
struct ScoreBoundsArgs {
  /// [features][16 queries]. A logit is the sum over features of query times bound.
  const float* queries = nullptr;
  const float* bounds = nullptr;  // [key blocks][features][4 groups]
  std::int64_t features = 0;
  const std::uint32_t* blocks = nullptr;  // [count]: numbers of key blocks
  std::int64_t count = 0;                 // at least 1
  float* logits = nullptr;                // scratch: [count][4][16], 64-byte aligned
  /// [count]: the largest logit of the block, over queries and groups, minus the query's
  /// log-sum-exp over all groups. The first is NaN where a query has a NaN.
  float* scores = nullptr;
};

struct Kernels {
  const char* name;
  void (*gemm_f32)(const GemmArgs& args);
  /// Null where the CPU has no bf16 dot product.
  void (*gemm_bf16)(const GemmArgs& args);
  void (*bf16_to_f32)(const std::uint16_t* in, float* out, std::int64_t n);
  void (*f32_to_bf16)(const float* in, std::uint16_t* out, std::int64_t n);
  void (*rms_norm)(const float* x, const float* weight, float eps, std::int64_t n, float* out);
  void (*silu_mul)(const float* gate, const float* up, std::int64_t n, float* out);
  /// out = head rotated; out may not alias head.
  void (*rope)(const float* head, const RopeRowArgs& args, float* out);
  float (*max)(const float* x, std::int64_t n);
  /// Sum of e^(x - max), accumulated in double.
  double (*sum_exp)(const float* x, float max, std::int64_t n);
  /// How many of x are greater than `value`.
  std::int64_t (*count_greater)(const float* x, float value, std::int64_t n);
  void (*mean_rows)(const MeanArgs& args);
  void (*bound_rows)(const BoundArgs& args);
  void (*score_bounds)(const ScoreBoundsArgs& args);
  /// out[i] = the larger of out[i] and x[i] - shift. A NaN of x or shift is stored, one in out
  /// replaced.
  void (*larger_difference)(const float* x, float shift, std::int64_t n, float* out);
  /// In place, n > 0. A NaN makes every element NaN.
  void (*softmax)(float* x, std::int64_t n);
  std::int64_t (*prefill_scratch_bytes)(std::int32_t head_dim, std::int32_t heads);
  void (*prefill)(const PrefillArgs& args);
  std::int64_t (*sparse_scratch_bytes)(std::int32_t head_dim);
  void (*sparse)(const SparseArgs& args);
  std::int64_t (*decode_scratch_bytes)(std::int32_t head_dim, std::int32_t queries);
  void (*decode)(const DecodeArgs& args);
  std::int64_t (*estimate_scratch_bytes)(std::int32_t head_dim);
  void (*estimate_weights)(const EstimateArgs& args);
  void (*estimate_lines)(const EstimateArgs& args);
};

const Kernels& Avx2Kernels();
const Kernels& Avx512Kernels();
const Kernels& Avx512Bf16Kernels();

}  // namespace longshadow::cpu
