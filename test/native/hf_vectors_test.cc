// Logits and greedy tokens of Hugging Face transformers for small random models, computed in fp32
// on bf16 weights. The models that made them had been cast to bf16 as a whole, rope frequencies
// included: with exact frequencies a plain fp64 implementation misses these logits by up to 0.9,
// with rounded ones it meets them to 1e-5. The tests say so in each model's config.json.
// The vectors are not part of the repository: without them the tests are skipped.
#include <gtest/gtest.h>

#include <cstdlib>

#include "model/safetensors.h"
#include "model/weight_files.h"
#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::AppendInChunks;
using model_test::OpenEngine;
using model_test::ReadJson;
using model_test::TemporaryFolder;
using model_test::WriteFile;

constexpr const char* kArchive = "../shared/reference/hf-vectors-dev.tar.gz";
// The project's bound on fp32 logits against transformers, and its definition of a tie.
constexpr float kLogitTolerance = 2e-3F;
constexpr float kTieGap = 0.05F;

/// The unpacked archive, once a process; empty when the archive is absent.
std::string VectorsFolder() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    if (!std::filesystem::exists(kArchive)) return std::string();
    const std::string command = std::string("tar -xzf ") + kArchive + " -C " + folder.path();
    if (std::system(command.c_str()) != 0) throw std::runtime_error("tar failed");
    return folder.path() + "/hf-vectors-dev";
  }();
  return path;
}

struct Case {
  std::string name;
  std::string device;
};

void PrintTo(const Case& test_case, std::ostream* out) {
  *out << test_case.name << " on " << test_case.device;
}

class HfVectors : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (VectorsFolder().empty()) GTEST_SKIP() << kArchive << " is absent";
    folder_ = VectorsFolder() + "/" + GetParam().name;
    auto config = ReadJson(folder_ + "/config.json");
    config["rope_frequency_dtype"] = "bfloat16";
    WriteFile(folder_ + "/config.json", config.dump());
    engine_ = OpenEngine(folder_, GetParam().device, DType::kF32);
  }

  /// Expected logits of a run: [rows, vocab].
  std::span<const float> Expected(const Tensor& tensor) const {
    return {reinterpret_cast<const float*>(tensor.data.data()),
            static_cast<std::size_t>(tensor.elements())};
  }

  std::string folder_;
  std::shared_ptr<Engine> engine_;
};

/// Elements that differ by more than the tolerance, or are not comparable: NaN counts.
std::size_t Misses(std::span<const float> a, std::span<const float> b, float tolerance) {
  std::size_t misses = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= tolerance)) ++misses;
  }
  return misses;
}

/// Continues greedily; a token may differ only where the two tie, and ends the comparison then.
void ExpectGreedy(Engine& engine, DecodeSession& session, std::vector<float> logits,
                  const std::vector<std::uint32_t>& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto best =
        static_cast<std::uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (best != expected[i]) {
      EXPECT_LT(logits[best] - logits[expected[i]], kTieGap) << "greedy token " << i;
      return;
    }
    const std::vector<std::int64_t> rows = {0};
    logits = engine.AppendLogits(session, {&best, 1}, rows);
  }
}

/// One chunk, chunks of 64, chunks of 1,000. The reference takes a while for the longest prompt,
/// which it runs in chunks of 1,000 alone; the shorter ones cover the rest.
std::vector<std::size_t> Chunks(const Case& test_case, std::size_t tokens) {
  if (tokens <= 1000) return {tokens, 64};
  if (test_case.device == "reference") return {1000};
  return {tokens, 64, 1000};
}

TEST_P(HfVectors, LogitsAndGreedyTokensForAnyChunk) {
  const MappedFile file(folder_ + "/logits.safetensors");
  const auto tensors = ParseSafetensors(file.bytes(), "logits");
  const auto document = ReadJson(folder_ + "/expected.json");
  for (const auto& run : document["runs"]) {
    const auto ids = run["input_ids"].get<std::vector<std::uint32_t>>();
    const auto rows = run["logit_rows"].get<std::vector<std::int64_t>>();
    const auto expected = Expected(tensors.at(run["logits_tensor"].get<std::string>()));
    ASSERT_EQ(rows.back(), static_cast<std::int64_t>(ids.size()) - 1);
    for (const std::size_t chunk : Chunks(GetParam(), ids.size())) {
      const auto session = DecodeSession::OpenScratch(engine_->info().geometry);
      const auto logits = AppendInChunks(*engine_, *session, ids, rows, chunk);
      ASSERT_EQ(logits.size(), expected.size());
      EXPECT_EQ(Misses(logits, expected, kLogitTolerance), 0U)
          << ids.size() << " tokens in chunks of " << chunk;
      const auto vocab = static_cast<std::ptrdiff_t>(engine_->info().config.vocab_size);
      ExpectGreedy(*engine_, *session, std::vector<float>(logits.end() - vocab, logits.end()),
                   run["greedy_16"].get<std::vector<std::uint32_t>>());
    }
  }
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const char* device : {"reference", "cpu"}) {
    for (const char* name : {"llama3-gqa", "llama31-rope-scaled", "yi-tied", "llama-hd128"}) {
      cases.push_back({name, device});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, HfVectors, testing::ValuesIn(AllCases()),
                         [](const testing::TestParamInfo<Case>& info) {
                           std::string name = info.param.device + "_" + info.param.name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace longshadow
