#include "model/llama_weights.h"

#include <cstring>
#include <string>

#include "longshadow/error.h"

namespace longshadow {
namespace {

/// Finds tensors by name and checks them against the model's shape.
class TensorTable {
 public:
  TensorTable(const WeightFiles& files, std::int64_t& parameters)
      : files_(files), parameters_(parameters) {}

  ConstMatrixView Matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    const Tensor& tensor = Find(name, {rows, cols});
    return {tensor.data.data(), Type(name, tensor), rows, cols, cols};
  }

  /// A norm's weight, widened to fp32: [size].
  std::vector<float> Vector(const std::string& name, std::int64_t size) {
    const Tensor& tensor = Find(name, {size});
    std::vector<float> values(static_cast<std::size_t>(size));
    if (Type(name, tensor) == DType::kF32) {
      std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
      return values;
    }
    const auto* bits = reinterpret_cast<const BFloat16*>(tensor.data.data());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = bits[i].ToFloat();
    return values;
  }

 private:
  const Tensor& Find(const std::string& name, const std::vector<std::int64_t>& shape) {
    const auto found = files_.tensors().find(name);
    if (found == files_.tensors().end()) {
      throw Error(ErrorCode::kModelInvalid, "the weights lack tensor '" + name + "'");
    }
    if (found->second.shape != shape) {
      throw Error(ErrorCode::kModelInvalid, "tensor '" + name + "' has shape " +
                                                Describe(found->second.shape) +
                                                " but config.json asks for " + Describe(shape));
    }
    parameters_ += found->second.elements();
    return found->second;
  }

  static DType Type(const std::string& name, const Tensor& tensor) {
    if (tensor.dtype == "F32") return DType::kF32;
    if (tensor.dtype == "BF16") return DType::kBF16;
    throw Error(ErrorCode::kUnsupported, "tensor '" + name + "' is stored as " + tensor.dtype +
                                             "; convert the weights to BF16 or F32");
  }

  static std::string Describe(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) {
      text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    }
    return text + "]";
  }

  const WeightFiles& files_;
  std::int64_t& parameters_;
};

/// One layer's tensors where they lie in the files.
struct LayerTensors {
  std::vector<float> input_norm;
  std::vector<ConstMatrixView> qkv;
  ConstMatrixView output;
  std::vector<float> post_attention_norm;
  std::vector<ConstMatrixView> gate_up;
  ConstMatrixView down;
};

LayerTensors FindLayer(TensorTable& table, const ModelConfig& config, std::int32_t layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t query_width = std::int64_t{config.query_heads} * config.head_dim;
  const std::int64_t kv_width = std::int64_t{config.kv_heads} * config.head_dim;
  LayerTensors tensors;
  tensors.input_norm = table.Vector(prefix + "input_layernorm.weight", hidden);
  tensors.qkv = {table.Matrix(prefix + "self_attn.q_proj.weight", query_width, hidden),
                 table.Matrix(prefix + "self_attn.k_proj.weight", kv_width, hidden),
                 table.Matrix(prefix + "self_attn.v_proj.weight", kv_width, hidden)};
  tensors.output = table.Matrix(prefix + "self_attn.o_proj.weight", hidden, query_width);
  tensors.post_attention_norm = table.Vector(prefix + "post_attention_layernorm.weight", hidden);
  tensors.gate_up = {table.Matrix(prefix + "mlp.gate_proj.weight", config.ffn_size, hidden),
                     table.Matrix(prefix + "mlp.up_proj.weight", config.ffn_size, hidden)};
  tensors.down = table.Matrix(prefix + "mlp.down_proj.weight", hidden, config.ffn_size);
  return tensors;
}

/// Packs for one backend and compute dtype, and can be interrupted between matrices.
struct Packer {
  Backend& backend;
  DType compute;
  const CancellationFlag& interrupt;

  std::unique_ptr<PackedMatrix> Pack(const ConstMatrixView& weight) const {
    interrupt.ThrowIfCancelled("opening the model was interrupted");
    return backend.Pack(weight, compute);
  }
};

/// Packs matrices of equal width stacked by rows. The joined copy lives only while it is packed.
std::unique_ptr<PackedMatrix> PackStacked(const std::vector<ConstMatrixView>& parts,
                                          const Packer& packer) {
  const ConstMatrixView& first = parts.front();
  const std::size_t row_bytes = static_cast<std::size_t>(first.cols) * DTypeBytes(first.dtype);
  std::vector<std::byte> joined;
  std::int64_t rows = 0;
  for (const ConstMatrixView& part : parts) {
    if (part.dtype != first.dtype) {
      throw Error(ErrorCode::kUnsupported,
                  "the q, k, v (or gate, up) weights of a layer differ in dtype; convert them "
                  "to one dtype");
    }
    const auto* bytes = static_cast<const std::byte*>(part.data);
    joined.insert(joined.end(), bytes, bytes + static_cast<std::size_t>(part.rows) * row_bytes);
    rows += part.rows;
  }
  return packer.Pack({joined.data(), first.dtype, rows, first.cols, first.cols});
}

LayerWeights PackLayer(LayerTensors tensors, const Packer& packer) {
  LayerWeights layer;
  layer.input_norm = std::move(tensors.input_norm);
  layer.qkv = PackStacked(tensors.qkv, packer);
  layer.output = packer.Pack(tensors.output);
  layer.post_attention_norm = std::move(tensors.post_attention_norm);
  layer.gate_up = PackStacked(tensors.gate_up, packer);
  layer.down = packer.Pack(tensors.down);
  return layer;
}

std::int64_t PackedBytes(const LlamaWeights& weights) {
  std::int64_t bytes = weights.head->bytes();
  for (const LayerWeights& layer : weights.layers) {
    bytes +=
        layer.qkv->bytes() + layer.output->bytes() + layer.gate_up->bytes() + layer.down->bytes();
  }
  return bytes;
}

}  // namespace

LlamaWeights LoadLlamaWeights(const WeightFiles& files, const ModelConfig& config, Backend& backend,
                              DType compute, const CancellationFlag& interrupt) {
  const Packer packer{backend, compute, interrupt};
  LlamaWeights weights;
  TensorTable table(files, weights.parameters);
  weights.embedding =
      table.Matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  std::vector<LayerTensors> layers;
  for (std::int32_t layer = 0; layer < config.layers; ++layer) {
    layers.push_back(FindLayer(table, config, layer));
  }
  weights.final_norm = table.Vector("model.norm.weight", config.hidden_size);
  const ConstMatrixView head =
      config.tied_embeddings
          ? weights.embedding
          : table.Matrix("lm_head.weight", config.vocab_size, config.hidden_size);
  for (LayerTensors& layer : layers) {
    weights.layers.push_back(PackLayer(std::move(layer), packer));
  }
  weights.head = packer.Pack(head);
  weights.packed_bytes = PackedBytes(weights);
  return weights;
}

}  // namespace longshadow
