// Prefill of prompt chunks into the segments of a value store.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "longshadow/session_kv.h"
#include "longshadow/value_store.h"
#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::CodeOf;
using model_test::DecodeGreedy;
using model_test::OpenEngine;
using model_test::RandomIds;
using model_test::SmallConfig;
using model_test::TemporaryFolder;
using model_test::WriteModel;
using model_test::WriteModelWithNaN;

constexpr std::uint32_t kVocab = 97;
constexpr std::int32_t kHidden = 48;

class EnginePrefill : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    WriteModel(folder_.path(), SmallConfig());
    engine_ = OpenEngine(folder_.path(), GetParam(), DType::kF32);
    store_ = ValueStore::Open(folder_.path() + "/store");
    key_.session_id = std::string(32, 'a');
    ids_ = RandomIds(1100, kVocab, 8);
  }

  std::shared_ptr<PrefillSession> OpenSession() {
    return PrefillSession::Open(store_, key_, engine_->info().geometry, kHidden);
  }

  PrefillChunkResult Prefill(PrefillSession& session, std::int64_t begin, std::int64_t end,
                             const ProgressCallback& progress = {}) {
    PrefillChunkRequest request;
    request.token_ids = std::span(ids_).subspan(begin, end - begin);
    request.begin = begin;
    return engine_->PrefillChunk(session, request, progress);
  }

  TemporaryFolder folder_;
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<ValueStore> store_;
  SessionKey key_;
  std::vector<std::uint32_t> ids_;
};

TEST_P(EnginePrefill, DecodesAfterTheHandOffAsWithoutAStore) {
  const auto scratch = DecodeSession::OpenScratch(engine_->info().geometry);
  engine_->AppendLogits(*scratch, ids_, {});
  const auto session = OpenSession();
  EXPECT_EQ(Prefill(*session, 0, 512).segment.end, 512);
  EXPECT_EQ(Prefill(*session, 512, 1100).segment.begin, 512);
  const auto hand_off = session->Seal();
  const auto decode =
      DecodeSession::Open(store_, hand_off, key_, engine_->info().geometry, kHidden);
  EXPECT_EQ(decode->tokens(), 1100);
  // Cuts at multiples of the row block run the same calls: the same bits.
  EXPECT_EQ(decode->last_hidden(), scratch->last_hidden());
  EXPECT_EQ(DecodeGreedy(*engine_, decode, 20), DecodeGreedy(*engine_, scratch, 20));
  EXPECT_EQ(engine_->counters().prefill_chunks, 2);
  EXPECT_EQ(engine_->counters().prefill_tokens, 1100);
}

/// Links the finished segments of one session under the names of another, as a worker does.
void LinkSegments(const std::string& store, const SessionKey& from, const SessionKey& to) {
  const std::filesystem::path folder = store + "/" + to.session_id;
  std::filesystem::create_directory(folder);
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all);
  for (const auto& file : std::filesystem::directory_iterator(store + "/" + from.session_id)) {
    const std::string name = file.path().filename();
    std::filesystem::create_hard_link(
        file.path(), folder / (std::to_string(to.epoch) + name.substr(name.find('-'))));
  }
}

TEST_P(EnginePrefill, DecodesOverSegmentsOfAnotherSessionAsOverItsOwn) {
  const KvGeometry geometry = engine_->info().geometry;
  const auto alone = OpenSession();
  Prefill(*alone, 0, 512);
  Prefill(*alone, 512, 1024);
  SessionKey other = key_;
  other.session_id = std::string(32, 'b');
  other.epoch = 5;
  other.fingerprint.fill(3);
  LinkSegments(store_->directory(), key_, other);
  Prefill(*alone, 1024, 1100);

  const auto session =
      PrefillSession::Open(store_, other, geometry, kHidden, {{0, 1024, key_.fingerprint}});
  ASSERT_EQ(session->tokens(), 1024);
  Prefill(*session, 1024, 1100);
  const auto decode = DecodeSession::Open(store_, session->Seal(), other, geometry, kHidden);
  const auto expected = DecodeSession::Open(store_, alone->Seal(), key_, geometry, kHidden);
  EXPECT_EQ(decode->last_hidden(), expected->last_hidden());
  EXPECT_EQ(DecodeGreedy(*engine_, decode, 20), DecodeGreedy(*engine_, expected, 20));
}

TEST_P(EnginePrefill, GivesLogprobsOfPromptTokens) {
  const auto scratch = DecodeSession::OpenScratch(engine_->info().geometry);
  const std::vector<std::int64_t> rows = {0, 511, 599};
  const auto logits = engine_->AppendLogits(*scratch, std::span(ids_).first(600), rows);
  const auto session = OpenSession();
  PrefillChunkRequest request;
  request.token_ids = std::span(ids_).first(600);
  request.next_token_id = ids_[600];
  const std::vector<std::int64_t> positions = {1, 512, 600};
  request.logprob_positions = positions;
  const auto result = engine_->PrefillChunk(*session, request, {});
  ASSERT_EQ(result.logprobs.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const std::span own = std::span(logits).subspan(i * kVocab, kVocab);
    const std::uint32_t id = ids_[static_cast<std::size_t>(positions[i])];
    double sum = 0;
    std::uint32_t rank = 1;
    for (std::uint32_t t = 0; t < kVocab; ++t) {
      sum += std::exp(static_cast<double>(own[t]) - static_cast<double>(own[id]));
      rank += own[t] > own[id] || (own[t] == own[id] && t < id) ? 1 : 0;
    }
    EXPECT_NEAR(result.logprobs[i], -std::log(sum), 1e-5) << i;
    EXPECT_EQ(result.ranks[i], rank) << i;
  }
}

TEST_P(EnginePrefill, LogprobsThatAreNoNumbersAbandonTheChunk) {
  WriteModelWithNaN(folder_.path(), 7);
  engine_ = OpenEngine(folder_.path(), GetParam(), DType::kF32);
  const auto session = OpenSession();
  PrefillChunkRequest request;
  const std::vector<std::uint32_t> ids = {3, 7, 5, 4};
  request.token_ids = ids;
  const std::vector<std::int64_t> positions = {1, 2};
  request.logprob_positions = positions;
  EXPECT_EQ(CodeOf([&] { engine_->PrefillChunk(*session, request, {}); }), ErrorCode::kInternal);
  EXPECT_EQ(session->tokens(), 0);
  const std::vector<std::uint32_t> others = {3, 8, 5, 4};
  request.token_ids = others;
  EXPECT_TRUE(std::isfinite(engine_->PrefillChunk(*session, request, {}).logprobs.at(0)));
}

TEST_P(EnginePrefill, ReportsProgressToTheEnd) {
  const auto session = OpenSession();
  std::vector<double> shares;
  Prefill(*session, 0, 1100, [&](double share) { shares.push_back(share); });
  // Three row blocks in each of two layers.
  ASSERT_EQ(shares.size(), 6U);
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_GT(shares.front(), 0);
  EXPECT_NEAR(shares.back(), 1, 1e-9);
}

TEST_P(EnginePrefill, ACancelledChunkLeavesTheSessionAsItWas) {
  const auto session = OpenSession();
  Prefill(*session, 0, 512);
  int calls = 0;
  const auto cancel_in_the_middle = [&](double) {
    if (++calls == 1) session->cancellation().Cancel();
  };
  EXPECT_EQ(CodeOf([&] { Prefill(*session, 512, 1100, cancel_in_the_middle); }),
            ErrorCode::kCancelled);
  EXPECT_EQ(calls, 1) << "cancellation is polled at the next row block";
  EXPECT_EQ(session->tokens(), 512);
  EXPECT_EQ(session->segments().size(), 1U);
  // A worker opens the session anew and goes on.
  const auto again = OpenSession();
  EXPECT_EQ(again->tokens(), 512);
  EXPECT_EQ(Prefill(*again, 512, 1100).segment.end, 1100);
}

TEST_P(EnginePrefill, RefusesBadRequestsBeforeAnyWork) {
  const auto session = OpenSession();
  const auto code_of = [&](const PrefillChunkRequest& request) {
    return CodeOf([&] { engine_->PrefillChunk(*session, request, {}); });
  };
  PrefillChunkRequest request;
  EXPECT_EQ(code_of(request), ErrorCode::kInvalidArgument) << "no tokens";
  request.token_ids = std::span(ids_).first(10);
  request.begin = 512;
  EXPECT_EQ(code_of(request), ErrorCode::kInvalidArgument) << "a gap";
  request.begin = 0;
  for (const std::vector<std::int64_t>& positions :
       {std::vector<std::int64_t>{0}, {3, 3}, {4, 3}, {11}, {-1}, {10}}) {
    request.logprob_positions = positions;
    EXPECT_EQ(code_of(request), ErrorCode::kInvalidArgument) << positions.back();
  }
  request.logprob_positions = {};
  request.next_token_id = kVocab;
  EXPECT_EQ(code_of(request), ErrorCode::kInvalidArgument) << "next token";
  request.next_token_id.reset();
  const std::vector<std::uint32_t> beyond = {1, kVocab};
  request.token_ids = beyond;
  EXPECT_EQ(code_of(request), ErrorCode::kInvalidArgument) << "token id";
  const std::vector<std::uint32_t> too_many(4097, 1);
  request.token_ids = too_many;
  EXPECT_EQ(code_of(request), ErrorCode::kInvalidArgument) << "positions";
  EXPECT_EQ(session->tokens(), 0);
  EXPECT_EQ(store_->Status().file_bytes, 0);
}

INSTANTIATE_TEST_SUITE_P(Devices, EnginePrefill, testing::Values("reference", "cpu"));

}  // namespace
}  // namespace longshadow
