#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "longshadow/error.h"
#include "longshadow/session_kv.h"
#include "longshadow/value_store.h"

namespace longshadow::kv_test {

inline constexpr std::int32_t kHiddenSize = 24;
inline const std::string kSessionId = "0123456789abcdef0123456789abcdef";

/// A value store in a temporary folder that goes when the test ends.
class TemporaryStore {
 public:
  TemporaryStore() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "longshadow-kv-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    root_ = pattern;
    store_ = ValueStore::Open(path());
  }
  ~TemporaryStore() { std::filesystem::remove_all(root_); }
  TemporaryStore(const TemporaryStore&) = delete;
  TemporaryStore& operator=(const TemporaryStore&) = delete;

  std::string root() const { return root_; }
  std::string path() const { return root_ + "/store"; }
  std::string file(const std::string& name) const { return path() + "/" + kSessionId + "/" + name; }
  const std::shared_ptr<ValueStore>& store() const { return store_; }

  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    if (!std::filesystem::exists(file(""))) return names;
    for (const auto& entry : std::filesystem::directory_iterator(file(""))) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::string root_;
  std::shared_ptr<ValueStore> store_;
};

inline SessionKey MakeKey(std::uint32_t epoch = 3, std::uint32_t stage = 1) {
  SessionKey key{kSessionId, epoch, stage, 4, {}};
  for (std::size_t i = 0; i < key.fingerprint.size(); ++i) {
    key.fingerprint[i] = static_cast<std::uint8_t>(i * 11);
  }
  return key;
}

/// Two layers, three kv heads, head_dim 8 in fp32: a plane of 16 KiB.
inline KvGeometry MakeGeometry() { return {2, 3, 8, DType::kF32}; }

/// The value of element d of a row: different for every (K or V, position, layer, head, d).
inline float Element(bool is_value, std::int64_t position, std::int32_t layer, std::int32_t head,
                     std::int32_t d) {
  return static_cast<float>(((position * 2 + layer) * 3 + head) * 8 + d) + (is_value ? 0.5F : 0.0F);
}

inline float* Row(std::span<std::byte* const> pages, std::int64_t position, std::int32_t layer,
                  std::int32_t head) {
  const KvGeometry geometry = MakeGeometry();
  auto* plane = reinterpret_cast<float*>(pages[static_cast<std::size_t>(position / kPageTokens)] +
                                         geometry.PlaneOffset(layer, head));
  return plane + position % kPageTokens * geometry.head_dim;
}

/// Calls visit(is_value, row, position, layer, head) for every row of [begin, end).
template <typename Visit>
void ForEachRow(const KvPages& pages, std::int64_t begin, std::int64_t end, const Visit& visit) {
  for (std::int64_t position = begin; position < end; ++position) {
    for (std::int32_t layer = 0; layer < MakeGeometry().layers; ++layer) {
      for (std::int32_t head = 0; head < MakeGeometry().kv_heads; ++head) {
        visit(false, Row(pages.k, position, layer, head), position, layer, head);
        visit(true, Row(pages.v, position, layer, head), position, layer, head);
      }
    }
  }
}

inline void Fill(const KvPages& pages, std::int64_t begin, std::int64_t end) {
  ForEachRow(pages, begin, end,
             [](bool is_value, float* row, std::int64_t p, std::int32_t l, std::int32_t h) {
               for (std::int32_t d = 0; d < 8; ++d) row[d] = Element(is_value, p, l, h, d);
             });
}

inline std::int64_t WrongElements(const KvPages& pages, std::int64_t begin, std::int64_t end) {
  std::int64_t wrong = 0;
  ForEachRow(pages, begin, end,
             [&](bool is_value, const float* row, std::int64_t p, std::int32_t l, std::int32_t h) {
               for (std::int32_t d = 0; d < 8; ++d)
                 wrong += row[d] != Element(is_value, p, l, h, d);
             });
  return wrong;
}

inline std::vector<float> LastHidden(float first) {
  std::vector<float> row(kHiddenSize);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = first + static_cast<float>(i) / 7;
  return row;
}

inline std::shared_ptr<PrefillSession> OpenPrefill(const TemporaryStore& store,
                                                   const SessionKey& key = MakeKey()) {
  return PrefillSession::Open(store.store(), key, MakeGeometry(), kHiddenSize);
}

/// Prefills [tokens(), end) as one chunk of made-up rows.
inline void Prefill(PrefillSession& session, std::int64_t end) {
  const std::int64_t begin = session.tokens();
  Fill(session.BeginChunk(begin, end), begin, end);
  session.FinishChunk(LastHidden(static_cast<float>(end)));
}

inline std::shared_ptr<DecodeSession> OpenDecode(const TemporaryStore& store,
                                                 std::span<const std::uint8_t> hand_off,
                                                 const SessionKey& key = MakeKey()) {
  return DecodeSession::Open(store.store(), hand_off, key, MakeGeometry(), kHiddenSize);
}

/// Flips one bit of a file in place.
inline void FlipBit(const std::string& path, std::int64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const int byte = file.get();
  ASSERT_TRUE(file.good()) << path << " has no byte " << offset;
  file.seekp(offset);
  file.put(static_cast<char>(byte ^ 0x10));
}

/// The code that `call` fails with; a test failure when it does not throw.
template <typename Call>
ErrorCode CodeOf(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

}  // namespace longshadow::kv_test
