#include "longshadow/model_config.h"

#include <gtest/gtest.h>

#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::CodeOf;
using model_test::SmallConfig;
using model_test::TemporaryFolder;
using model_test::WriteFile;
using nlohmann::json;

ModelConfig Read(const json& config, const std::string& generation = "") {
  const TemporaryFolder folder;
  WriteFile(folder.path() + "/config.json", config.dump());
  if (!generation.empty()) WriteFile(folder.path() + "/generation_config.json", generation);
  return ReadModelConfig(folder.path());
}

json With(const std::string& name, const json& value) {
  json config = SmallConfig();
  config[name] = value;
  return config;
}

json Without(const std::string& name) {
  json config = SmallConfig();
  config.erase(name);
  return config;
}

TEST(ModelConfig, ReadsTheShape) {
  const ModelConfig config = Read(SmallConfig());
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.hidden_size, 48);
  EXPECT_EQ(config.ffn_size, 80);
  EXPECT_EQ(config.query_heads, 4);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.vocab_size, 97);
  EXPECT_EQ(config.max_positions, 4096);
  EXPECT_EQ(config.bos_token_id, 1U);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_FALSE(config.rope_scaling.has_value());
}

TEST(ModelConfig, FillsDefaults) {
  json document = Without("head_dim");
  document["hidden_size"] = 64;
  document.erase("num_key_value_heads");
  document.erase("bos_token_id");
  document["eos_token_id"] = nullptr;
  const ModelConfig config = Read(document);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rope_frequency_dtype, DType::kF32);
  EXPECT_FALSE(config.bos_token_id.has_value());
  EXPECT_TRUE(config.eos_token_ids.empty());
}

TEST(ModelConfig, DerivesHeadDimFromTheHiddenSize) {
  json document = Without("head_dim");
  document["hidden_size"] = 96;
  EXPECT_EQ(Read(document).head_dim, 24);
  document["hidden_size"] = 98;
  EXPECT_EQ(CodeOf([&] { Read(document); }), ErrorCode::kModelInvalid);
}

TEST(ModelConfig, ReadsEndTokensFromBothFiles) {
  EXPECT_EQ(Read(With("eos_token_id", 7)).eos_token_ids, (std::vector<std::uint32_t>{7}));
  EXPECT_EQ(Read(With("eos_token_id", {7, 9})).eos_token_ids, (std::vector<std::uint32_t>{7, 9}));
  EXPECT_EQ(Read(With("eos_token_id", 7), R"({"eos_token_id":[7,8]})").eos_token_ids,
            (std::vector<std::uint32_t>{7, 8}));
  EXPECT_EQ(Read(Without("eos_token_id"), R"({"eos_token_id":3})").eos_token_ids,
            (std::vector<std::uint32_t>{3}));
  EXPECT_EQ(CodeOf([] { Read(With("eos_token_id", 7), R"({"eos_token_id":97})"); }),
            ErrorCode::kModelInvalid);
}

TEST(ModelConfig, ReadsBothSpellingsOfRope) {
  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}};
  json older = With("rope_scaling", llama3);
  older["rope_theta"] = 5e5;
  json newer = Without("rope_theta");
  newer["rope_parameters"] = llama3;
  newer["rope_parameters"]["rope_theta"] = 5e5;
  for (const json& document : {older, newer}) {
    const ModelConfig config = Read(document);
    EXPECT_EQ(config.rope_theta, 5e5);
    ASSERT_TRUE(config.rope_scaling.has_value());
    EXPECT_EQ(config.rope_scaling->factor, 8);
    EXPECT_EQ(config.rope_scaling->original_max_positions, 8192);
  }
  EXPECT_FALSE(Read(With("rope_scaling", nullptr)).rope_scaling.has_value());
  EXPECT_FALSE(Read(With("rope_parameters", {{"rope_type", "default"}})).rope_scaling.has_value());
}

TEST(ModelConfig, RefusesValuesOutOfRange) {
  const std::vector<std::pair<std::string, json>> cases = {
      {"num_hidden_layers", 0},
      {"num_hidden_layers", -1},
      {"num_hidden_layers", 1e30},
      {"num_hidden_layers", 18446744073709551615ULL},
      {"num_hidden_layers", "two"},
      {"hidden_size", 0},
      {"hidden_size", 48.5},
      {"hidden_size", json::array()},
      {"intermediate_size", 1 << 30},
      {"num_attention_heads", 0},
      {"num_key_value_heads", 3},
      {"num_key_value_heads", 8},
      {"head_dim", 12},
      {"head_dim", 264},
      {"head_dim", 0},
      {"vocab_size", 0},
      {"vocab_size", 1LL << 40},
      {"max_position_embeddings", 0},
      {"rms_norm_eps", 0},
      {"rms_norm_eps", 2},
      {"rope_theta", 0},
      {"rope_theta", "big"},
      {"rope_scaling", 3},
      {"rope_scaling", {{"rope_type", "llama3"}}},
      {"tie_word_embeddings", 1},
      {"bos_token_id", 97},
      {"eos_token_id", -1},
      {"eos_token_id", {1, "x"}},
      {"model_type", 5},
      {"rope_frequency_dtype", "float16"},
  };
  for (const auto& [name, value] : cases) {
    std::string message;
    EXPECT_EQ(CodeOf([&, n = name, v = value] { Read(With(n, v)); }, &message),
              ErrorCode::kModelInvalid)
        << name << " = " << value;
    const bool names_field =
        message.find(name) != std::string::npos || message.find("factor") != std::string::npos;
    EXPECT_TRUE(names_field) << message;
  }
  for (const char* name : {"num_hidden_layers", "hidden_size", "intermediate_size",
                           "num_attention_heads", "vocab_size"}) {
    EXPECT_EQ(CodeOf([&] { Read(Without(name)); }), ErrorCode::kModelInvalid) << name;
  }
}

TEST(ModelConfig, RefusesWhatIsNotServed) {
  const std::vector<std::pair<std::string, json>> cases = {
      {"model_type", "mamba"},
      {"hidden_act", "gelu"},
      {"attention_bias", true},
      {"mlp_bias", true},
      {"partial_rotary_factor", 0.5},
      {"quantization_config", {{"quant_method", "awq"}}},
      {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}},
      {"rope_parameters", {{"rope_type", "yarn"}, {"rope_theta", 1e4}}},
  };
  for (const auto& [name, value] : cases) {
    EXPECT_EQ(CodeOf([&, n = name, v = value] { Read(With(n, v)); }), ErrorCode::kUnsupported)
        << name;
  }
  EXPECT_EQ(CodeOf([] { Read(Without("model_type")); }), ErrorCode::kUnsupported);
}

TEST(ModelConfig, RefusesFilesThatAreNotAConfig) {
  const TemporaryFolder folder;
  EXPECT_EQ(CodeOf([&] { ReadModelConfig(folder.path()); }), ErrorCode::kModelInvalid);
  for (const std::string& text : {std::string("[]"), std::string("{"), std::string(),
                                  std::string("\xff\xfe"), std::string(100'000, '[')}) {
    WriteFile(folder.path() + "/config.json", text);
    EXPECT_EQ(CodeOf([&] { ReadModelConfig(folder.path()); }), ErrorCode::kModelInvalid);
  }
}

}  // namespace
}  // namespace longshadow
