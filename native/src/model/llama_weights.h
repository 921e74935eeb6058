#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longshadow/backend.h"
#include "longshadow/cancellation.h"
#include "longshadow/model_config.h"
#include "model/weight_files.h"

namespace longshadow {

/// Weights of one decoder layer. D = head_dim.
struct LayerWeights {
  std::vector<float> input_norm;           // [hidden]
  std::unique_ptr<PackedMatrix> qkv;       // [(query_heads + 2 kv_heads) * D, hidden]: q, k, v
  std::unique_ptr<PackedMatrix> output;    // [hidden, query_heads * D]
  std::vector<float> post_attention_norm;  // [hidden]
  std::unique_ptr<PackedMatrix> gate_up;   // [2 * ffn, hidden]: gate, up
  std::unique_ptr<PackedMatrix> down;      // [hidden, ffn]
};

/// A whole Llama in the form a backend multiplies.
struct LlamaWeights {
  ConstMatrixView embedding;  // [vocab, hidden], in the mapped file
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;       // [hidden]
  std::unique_ptr<PackedMatrix> head;  // [vocab, hidden]
  std::int64_t parameters = 0;         // tied embeddings count once
  std::int64_t packed_bytes = 0;
};

/// Checks that every tensor is there with its shape and dtype (BF16 or F32), then packs.
/// `files` must outlive the result: the embedding is used where it lies.
/// interrupt: polled for every tensor (kCancelled).
/// Throws kModelInvalid for a missing tensor or a wrong shape, kUnsupported for another dtype.
LlamaWeights LoadLlamaWeights(const WeightFiles& files, const ModelConfig& config, Backend& backend,
                              DType compute, const CancellationFlag& interrupt);

}  // namespace longshadow
