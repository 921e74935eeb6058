#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "kv/geometry_check.h"
#include "kv/hand_off.h"
#include "kv/private_page.h"
#include "kv/segment.h"
#include "kv/store_directory.h"
#include "longshadow/error.h"
#include "longshadow/session_kv.h"

namespace longshadow {
namespace {

class DecodeSessionImpl final : public DecodeSession {
 public:
  explicit DecodeSessionImpl(const KvGeometry& geometry) : geometry_(geometry) {
    CheckGeometry(geometry);
  }

  /// Maps the segments that `hand_off` lists and copies the rows of a partial last page.
  DecodeSessionImpl(const StoreDirectory& store, const SessionKey& key, const KvGeometry& geometry,
                    HandOff hand_off);

  const KvGeometry& geometry() const override { return geometry_; }
  std::int64_t tokens() const override { return tokens_; }
  std::vector<float>& last_hidden() override { return last_hidden_; }
  CancellationFlag& cancellation() override { return cancellation_; }

  std::int64_t private_bytes() const override {
    return static_cast<std::int64_t>(private_pages_.size()) * 2 * geometry_.PageBytes();
  }

  KvPages Extend(std::int64_t rows) override {
    if (rows < 0 || rows > kMaxTokens - tokens_) {
      throw Error(ErrorCode::kInvalidArgument, "a session of " + std::to_string(tokens_) +
                                                   " tokens cannot grow by " +
                                                   std::to_string(rows));
    }
    const auto pages = static_cast<std::size_t>(PagesOf(tokens_ + rows));
    while (k_pages_.size() < pages) AddPrivatePage();
    extended_ = rows;
    return {std::span(k_pages_).first(pages), std::span(v_pages_).first(pages)};
  }

  void Commit(std::int64_t rows) override {
    if (rows < 0 || rows > extended_) {
      throw Error(ErrorCode::kInternal, "Commit of " + std::to_string(rows) +
                                            " rows after Extend of " + std::to_string(extended_));
    }
    tokens_ += rows;
    extended_ = 0;
  }

  void VerifyLayer(std::int32_t layer) override {
    for (Segment& segment : segments_) segment.VerifyLayer(layer, cancellation_);
  }

 private:
  void AddSegment(Segment segment);
  /// Makes a private copy of the first `rows` rows of a segment's page.
  void CopyRows(Segment& segment, std::int64_t page, std::int64_t rows);
  void AddPrivatePage() {
    private_pages_.reserve(private_pages_.size() + 1);
    k_pages_.reserve(k_pages_.size() + 1);
    v_pages_.reserve(v_pages_.size() + 1);
    const PrivatePage& page = private_pages_.emplace_back(geometry_.PageBytes());
    k_pages_.push_back(page.k());
    v_pages_.push_back(page.v());
  }

  KvGeometry geometry_;
  std::int64_t tokens_ = 0;
  std::int64_t extended_ = 0;
  std::vector<float> last_hidden_;
  std::vector<Segment> segments_;
  std::vector<PrivatePage> private_pages_;
  std::vector<std::byte*> k_pages_;
  std::vector<std::byte*> v_pages_;
  CancellationFlag cancellation_;
};

DecodeSessionImpl::DecodeSessionImpl(const StoreDirectory& store, const SessionKey& key,
                                     const KvGeometry& geometry, HandOff hand_off)
    : geometry_(geometry), last_hidden_(std::move(hand_off.last_hidden)) {
  const UniqueFd folder = store.OpenSessionFolder(key.session_id, false);
  if (!folder.valid()) throw Error(ErrorCode::kDataLoss, "the session's segments are gone");
  const auto hidden_size = static_cast<std::int32_t>(last_hidden_.size());
  for (const HandOffSegment& entry : hand_off.segments) {
    Segment segment = Segment::Open(folder.get(), {key, geometry, hidden_size, SegmentKind::kKeys,
                                                   entry.begin, entry.end, entry.fingerprint});
    if (segment.keys.header_crc() != entry.keys_header_crc ||
        segment.values.header_crc() != entry.values_header_crc) {
      throw Error(ErrorCode::kDataLoss, "a segment is not the one that the hand-off lists");
    }
    AddSegment(std::move(segment));
  }
}

void DecodeSessionImpl::AddSegment(Segment segment) {
  const std::int64_t full_pages = (segment.info.end - segment.info.begin) / kPageTokens;
  for (std::int64_t page = 0; page < full_pages; ++page) {
    k_pages_.push_back(segment.keys.Page(page));
    v_pages_.push_back(segment.values.Page(page));
  }
  const std::int64_t rest = segment.info.end % kPageTokens;
  if (rest != 0) CopyRows(segment, full_pages, rest);
  tokens_ = segment.info.end;
  if (full_pages > 0) segments_.push_back(std::move(segment));
}

void DecodeSessionImpl::CopyRows(Segment& segment, std::int64_t page, std::int64_t rows) {
  segment.keys.VerifyPage(page);
  segment.values.VerifyPage(page);
  AddPrivatePage();
  const auto bytes = static_cast<std::size_t>(geometry_.PlaneBytes() / kPageTokens * rows);
  for (std::int32_t layer = 0; layer < geometry_.layers; ++layer) {
    for (std::int32_t head = 0; head < geometry_.kv_heads; ++head) {
      const std::int64_t plane = geometry_.PlaneOffset(layer, head);
      std::memcpy(k_pages_.back() + plane, segment.keys.Page(page) + plane, bytes);
      std::memcpy(v_pages_.back() + plane, segment.values.Page(page) + plane, bytes);
    }
  }
}

}  // namespace

std::shared_ptr<DecodeSession> DecodeSession::Open(std::shared_ptr<ValueStore> store,
                                                   std::span<const std::uint8_t> hand_off,
                                                   const SessionKey& expected,
                                                   const KvGeometry& geometry,
                                                   std::int32_t hidden_size) {
  CheckSpec(
      {expected, geometry, hidden_size, SegmentKind::kKeys, 0, kPageTokens, expected.fingerprint});
  return std::make_shared<DecodeSessionImpl>(
      AsStoreDirectory(store), expected, geometry,
      ReadHandOff(hand_off, expected, geometry, hidden_size));
}

std::shared_ptr<DecodeSession> DecodeSession::OpenScratch(const KvGeometry& geometry) {
  return std::make_shared<DecodeSessionImpl>(geometry);
}

}  // namespace longshadow
