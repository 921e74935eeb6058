#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <random>

#include "model/weight_files.h"
#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::CodeOf;
using model_test::SafetensorsBytes;
using model_test::TemporaryFolder;
using model_test::TensorWriter;
using model_test::WriteFile;

/// Parses a copy that is aligned as a mapped file is.
std::map<std::string, Tensor> Parse(const std::string& bytes, std::vector<std::byte>& storage) {
  const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
  storage.assign(data, data + bytes.size());
  return ParseSafetensors(storage, "file");
}

std::string ErrorOf(const std::string& header, const std::string& data) {
  std::vector<std::byte> storage;
  std::string message;
  EXPECT_EQ(CodeOf([&] { Parse(SafetensorsBytes(header, data), storage); }, &message),
            ErrorCode::kModelInvalid);
  return message;
}

TensorWriter TwoTensors() {
  TensorWriter writer;
  writer.Add("a", {2, 3}, {1, 2, 3, 4, 5, 6});
  writer.Add("b", {2}, {0.5F, -2}, DType::kBF16);
  return writer;
}

TEST(Safetensors, ReadsTensorsWhereTheyLie) {
  std::vector<std::byte> storage;
  const auto tensors = Parse(TwoTensors().Bytes({"a", "b"}), storage);
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors.at("a").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(reinterpret_cast<const float*>(tensors.at("a").data.data())[5], 6.0F);
  EXPECT_EQ(tensors.at("b").dtype, "BF16");
  EXPECT_EQ(reinterpret_cast<const BFloat16*>(tensors.at("b").data.data())[1].ToFloat(), -2.0F);
  EXPECT_EQ(tensors.at("b").data.data() + tensors.at("b").data.size(),
            storage.data() + storage.size());
}

TEST(Safetensors, AcceptsTensorsWithoutElements) {
  std::vector<std::byte> storage;
  const auto tensors = Parse(
      SafetensorsBytes(R"({"e":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]}})", ""), storage);
  EXPECT_EQ(tensors.at("e").elements(), 0);
}

TEST(Safetensors, RefusesEachKindOfDamage) {
  const std::string data(8, 'x');
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"([1])", "not a JSON object"},
      {R"({"a":)", "not a JSON object"},
      {R"({"a":3})", "is not an object"},
      {R"({"a":{"shape":[2],"data_offsets":[0,8]}})", "no dtype"},
      {R"({"a":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})", "no dtype"},
      {R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", "unknown dtype"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", "no shape"},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "no shape"},
      {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", "no shape"},
      {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}})", "no shape"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}})",
       "63 bits"},
      {R"({"a":{"dtype":"U8","shape":[9223372036854775807,2,0],"data_offsets":[0,0]}})", "63 bits"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", "pair of data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "outside"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})", "outside"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,0]}})", "outside"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", "do not match"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "after its last"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "overlap or leave a hole"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
           "b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       "overlap or leave a hole"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
           "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       "names a key twice"},
      {R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", "deeper than"},
  };
  for (const auto& [header, expected] : cases) {
    // Aligned to 4 bytes where the case is not about alignment.
    std::string padded = header;
    padded.resize((padded.size() + 7) / 8 * 8, ' ');
    EXPECT_NE(ErrorOf(padded, data).find(expected), std::string::npos)
        << header << "\n gave: " << ErrorOf(padded, data);
  }
  EXPECT_NE(ErrorOf(std::string(500'000, '['), data).find("deeper than"), std::string::npos);
}

TEST(Safetensors, RefusesUnalignedData) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  std::string odd = header;
  odd.resize((odd.size() + 7) / 8 * 8 + 1, ' ');
  EXPECT_NE(ErrorOf(odd, std::string(8, 'x')).find("aligned"), std::string::npos);
}

TEST(Safetensors, RefusesEveryTruncation) {
  const std::string whole = TwoTensors().Bytes({"a", "b"});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::vector<std::byte> storage;
    EXPECT_EQ(CodeOf([&] { Parse(whole.substr(0, size), storage); }), ErrorCode::kModelInvalid)
        << size;
  }
}

TEST(Safetensors, RefusesAHeaderLengthBeyondTheFile) {
  std::string bytes = TwoTensors().Bytes({"a", "b"});
  for (const int byte : {3, 4, 7}) {
    std::string changed = bytes;
    changed[static_cast<std::size_t>(byte)] = '\x7f';
    std::vector<std::byte> storage;
    EXPECT_EQ(CodeOf([&] { Parse(changed, storage); }), ErrorCode::kModelInvalid);
  }
}

/// Changes one to four places of a file: bits, bytes, digits, removed or doubled pieces.
std::string Mutate(std::string bytes, std::mt19937& random) {
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random()) % limit; };
  for (std::size_t edits = 1 + below(4); edits > 0 && bytes.size() > 1; --edits) {
    // The header and its length get nearly all edits.
    const std::size_t at = below(std::min<std::size_t>(bytes.size(), 320));
    switch (below(6)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(random());
        break;
      case 2:
        bytes[at] = "0123456789[]{}\",:-e\\"[below(20)];
        break;
      case 3:
        bytes.erase(at, 1 + below(12));
        break;
      case 4:
        bytes.insert(at, bytes.substr(at, 1 + below(24)));
        break;
      default:
        bytes.resize(at + 1);
    }
  }
  return bytes;
}

/// Touches every byte that a parse promises, so that a sanitizer sees a wrong promise.
unsigned SumAll(const std::map<std::string, Tensor>& tensors) {
  unsigned sum = 0;
  for (const auto& [name, tensor] : tensors) {
    EXPECT_GE(tensor.elements(), 0);
    for (const std::byte byte : tensor.data) sum += static_cast<unsigned>(byte);
  }
  return sum;
}

TEST(Safetensors, TwentyThousandMutatedFilesGiveErrorsOrAValidParse) {
  const std::string original = TwoTensors().Bytes({"a", "b"});
  std::mt19937 random(20260101);
  int refused = 0;
  int accepted = 0;
  unsigned sum = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = Mutate(original, random);
    // Header edits that change its length are only reached when the length follows.
    if (i % 2 == 0 && bytes.size() > 8) {
      const std::size_t data_bytes = std::min<std::size_t>(28, bytes.size() - 8);
      const std::uint64_t header_bytes = bytes.size() - 8 - data_bytes;
      for (int b = 0; b < 8; ++b) {
        bytes[static_cast<std::size_t>(b)] = static_cast<char>(header_bytes >> (8 * b));
      }
    }
    std::vector<std::byte> storage;
    try {
      sum += SumAll(Parse(bytes, storage));
      ++accepted;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kModelInvalid);
      ++refused;
    }
  }
  EXPECT_GT(refused, 10'000);
  EXPECT_GT(accepted, 100) << "the mutations should also leave valid files; sum " << sum;
}

TEST(WeightFiles, ReadsShardsThroughTheIndex) {
  const TemporaryFolder folder;
  const TensorWriter writer = TwoTensors();
  WriteFile(folder.path() + "/m-1.safetensors", writer.Bytes({"a"}));
  WriteFile(folder.path() + "/m-2.safetensors", writer.Bytes({"b"}));
  WriteFile(folder.path() + "/model.safetensors.index.json",
            R"({"metadata":{"total_size":28},
                "weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  const WeightFiles files(folder.path());
  EXPECT_EQ(files.tensors().size(), 2U);
  EXPECT_EQ(files.file_bytes(),
            static_cast<std::int64_t>(writer.Bytes({"a"}).size() + writer.Bytes({"b"}).size()));
}

TEST(WeightFiles, RefusesBadIndexes) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"weight_map":{"a":"../m-1.safetensors"}})", "own folder"},
      {R"({"weight_map":{"a":"/etc/passwd"}})", "own folder"},
      {R"({"weight_map":{"a":".."}})", "own folder"},
      {R"({"weight_map":{"a":""}})", "own folder"},
      {R"({"weight_map":{"a":"m\u0000"}})", "own folder"},
      {R"({"weight_map":{"a":7}})", "file names"},
      {R"({"weight_map":{}})", "no weight_map"},
      {R"({})", "no weight_map"},
      {R"({"weight_map":{"z":"m-1.safetensors"}})", "lacks tensor 'z'"},
      {R"({"weight_map":{"a":"absent.safetensors"}})", "no such file"},
  };
  for (const auto& [index, expected] : cases) {
    const TemporaryFolder folder;
    WriteFile(folder.path() + "/m-1.safetensors", TwoTensors().Bytes({"a"}));
    WriteFile(folder.path() + "/model.safetensors.index.json", index);
    std::string message;
    EXPECT_EQ(CodeOf([&] { WeightFiles files(folder.path()); }, &message),
              ErrorCode::kModelInvalid);
    EXPECT_NE(message.find(expected), std::string::npos) << index << "\n gave: " << message;
  }
}

TEST(WeightFiles, RefusesAFolderWithoutWeights) {
  const TemporaryFolder folder;
  EXPECT_EQ(CodeOf([&] { WeightFiles files(folder.path()); }), ErrorCode::kModelInvalid);
  EXPECT_EQ(CodeOf([&] { WeightFiles files(folder.path() + "/absent"); }),
            ErrorCode::kModelInvalid);
}

}  // namespace
}  // namespace longshadow
