#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "longshadow/dtype.h"
#include "longshadow/engine.h"
#include "longshadow/error.h"

namespace longshadow::model_test {

/// A folder that goes when the test ends.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "longshadow-model-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

/// Header length, header, data.
inline std::string SafetensorsBytes(const std::string& header, const std::string& data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(header.size() >> (8 * i)));
  return bytes + header + data;
}

/// Collects fp32 or bf16 tensors and writes them as safetensors files.
class TensorWriter {
 public:
  void Add(const std::string& name, const std::vector<std::int64_t>& shape,
           const std::vector<float>& values, DType dtype = DType::kF32) {
    std::string bytes(values.size() * DTypeBytes(dtype), '\0');
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (dtype == DType::kF32) {
        std::memcpy(bytes.data() + 4 * i, &values[i], 4);
      } else {
        const BFloat16 narrow = BFloat16::FromFloat(values[i]);
        std::memcpy(bytes.data() + 2 * i, &narrow, 2);
      }
    }
    tensors_[name] = {shape, dtype, bytes};
  }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }

  /// A file of the named tensors, padded so that data is aligned.
  std::string Bytes(const std::vector<std::string>& names) const {
    nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
    std::string data;
    for (const std::string& name : names) {
      const Entry& entry = tensors_.at(name);
      header[name] = {{"dtype", entry.dtype == DType::kF32 ? "F32" : "BF16"},
                      {"shape", entry.shape},
                      {"data_offsets", {data.size(), data.size() + entry.bytes.size()}}};
      data += entry.bytes;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    return SafetensorsBytes(text, data);
  }

 private:
  struct Entry {
    std::vector<std::int64_t> shape;
    DType dtype = DType::kF32;
    std::string bytes;
  };
  std::map<std::string, Entry> tensors_;
};

/// config.json of a small Llama with GQA and a separate head.
inline nlohmann::json SmallConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 48},
          {"intermediate_size", 80},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"vocab_size", 97},
          {"max_position_embeddings", 4096},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", false},
          {"bos_token_id", 1},
          {"eos_token_id", 2}};
}

/// Random weights of the shapes that a config asks for.
inline TensorWriter RandomWeights(const nlohmann::json& config, DType dtype) {
  TensorWriter writer;
  std::mt19937 random(11);
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    std::vector<float> values(static_cast<std::size_t>(count));
    std::normal_distribution<float> normal(shape.size() == 1 ? 1.0F : 0.0F, 0.15F);
    for (float& value : values) value = normal(random);
    writer.Add(name, shape, values, dtype);
  };
  const std::int64_t hidden = config["hidden_size"];
  const std::int64_t ffn = config["intermediate_size"];
  const std::int64_t head_dim = config["head_dim"];
  const std::int64_t query_width = head_dim * config["num_attention_heads"].get<std::int64_t>();
  const std::int64_t kv_width = head_dim * config["num_key_value_heads"].get<std::int64_t>();
  const std::int64_t vocab = config["vocab_size"];
  add("model.embed_tokens.weight", {vocab, hidden});
  for (int layer = 0; layer < config["num_hidden_layers"].get<int>(); ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {hidden});
    add(prefix + "self_attn.q_proj.weight", {query_width, hidden});
    add(prefix + "self_attn.k_proj.weight", {kv_width, hidden});
    add(prefix + "self_attn.v_proj.weight", {kv_width, hidden});
    add(prefix + "self_attn.o_proj.weight", {hidden, query_width});
    add(prefix + "post_attention_layernorm.weight", {hidden});
    add(prefix + "mlp.gate_proj.weight", {ffn, hidden});
    add(prefix + "mlp.up_proj.weight", {ffn, hidden});
    add(prefix + "mlp.down_proj.weight", {hidden, ffn});
  }
  add("model.norm.weight", {hidden});
  if (!config.value("tie_word_embeddings", false)) add("lm_head.weight", {vocab, hidden});
  return writer;
}

/// Writes a small random model as one file.
inline void WriteModel(const std::string& folder, const nlohmann::json& config,
                       DType dtype = DType::kBF16) {
  const TensorWriter writer = RandomWeights(config, dtype);
  WriteFile(folder + "/config.json", config.dump(1));
  WriteFile(folder + "/model.safetensors", writer.Bytes(writer.names()));
}

/// Writes a small model in which every row from `token` on has logits that are no numbers.
inline void WriteModelWithNaN(const std::string& folder, std::uint32_t token) {
  const nlohmann::json config = SmallConfig();
  const std::int64_t vocab = config["vocab_size"];
  const std::int64_t hidden = config["hidden_size"];
  std::vector<float> embedding(static_cast<std::size_t>(vocab * hidden));
  for (std::size_t i = 0; i < embedding.size(); ++i) {
    const bool bad = i / static_cast<std::size_t>(hidden) == token;
    embedding[i] = bad ? std::nanf("") : std::sin(static_cast<float>(i));
  }
  TensorWriter writer = RandomWeights(config, DType::kF32);
  writer.Add("model.embed_tokens.weight", {vocab, hidden}, embedding);
  WriteFile(folder + "/config.json", config.dump(1));
  WriteFile(folder + "/model.safetensors", writer.Bytes(writer.names()));
}

inline std::shared_ptr<Engine> OpenEngine(const std::string& folder, const std::string& device,
                                          DType dtype) {
  EngineOptions options;
  options.model_directory = folder;
  options.device = device;
  options.dtype = dtype;
  options.threads = 2;
  return Engine::Open(options);
}

inline std::vector<std::uint32_t> RandomIds(std::size_t count, std::uint32_t vocab,
                                            std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::uint32_t> ids(count);
  for (std::uint32_t& id : ids) id = static_cast<std::uint32_t>(random() % vocab);
  return ids;
}

/// Appends tokens in calls of at most `chunk` and returns logits [rows.size(), vocab] of the given
/// rows, which count from the first of `ids`.
inline std::vector<float> AppendInChunks(Engine& engine, DecodeSession& session,
                                         const std::vector<std::uint32_t>& ids,
                                         const std::vector<std::int64_t>& rows, std::size_t chunk) {
  std::vector<float> logits;
  for (std::size_t begin = 0; begin < ids.size(); begin += chunk) {
    const std::size_t count = std::min(chunk, ids.size() - begin);
    std::vector<std::int64_t> own;
    for (const std::int64_t row : rows) {
      const std::int64_t relative = row - static_cast<std::int64_t>(begin);
      if (relative >= 0 && relative < static_cast<std::int64_t>(count)) own.push_back(relative);
    }
    const auto part = engine.AppendLogits(session, std::span(ids).subspan(begin, count), own);
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

/// A decode item that appends `ids` and samples greedily.
inline DecodeItem GreedyItem(std::shared_ptr<DecodeSession> session,
                             std::span<const std::uint32_t> ids, std::uint64_t index = 0) {
  DecodeItem item;
  item.session = std::move(session);
  item.token_ids = ids;
  item.token_index = index;
  return item;
}

/// Greedy continuation by DecodeStep; stops after `stop` if it is given.
inline std::vector<std::uint32_t> DecodeGreedy(Engine& engine,
                                               const std::shared_ptr<DecodeSession>& session,
                                               std::size_t count,
                                               std::optional<std::uint32_t> stop = std::nullopt) {
  std::vector<std::uint32_t> generated;
  while (generated.size() < count) {
    const std::span<const std::uint32_t> last =
        generated.empty() ? std::span<const std::uint32_t>{} : std::span(generated).last(1);
    const DecodeItem item = GreedyItem(session, last, generated.size());
    const auto results = engine.DecodeStep({&item, 1});
    if (results[0].error) throw *results[0].error;
    generated.push_back(*results[0].token);
    if (generated.back() == stop) break;
  }
  return generated;
}

/// Runs `action`, which must throw an Error, and returns its code; the message goes to `message`.
template <typename Action>
ErrorCode CodeOf(Action&& action, std::string* message = nullptr) {
  try {
    action();
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return error.code();
  }
  ADD_FAILURE() << "no error was thrown";
  return ErrorCode::kInternal;
}

}  // namespace longshadow::model_test
