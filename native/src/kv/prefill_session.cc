#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "kv/geometry_check.h"
#include "kv/hand_off.h"
#include "kv/segment.h"
#include "kv/store_directory.h"
#include "longshadow/error.h"
#include "longshadow/session_kv.h"

namespace longshadow {
namespace {

/// Throws kInvalidArgument unless the origins ascend without overlap and segments can begin there.
void CheckOrigins(const std::vector<SegmentOrigin>& origins) {
  std::int64_t position = 0;
  for (const SegmentOrigin& origin : origins) {
    if (origin.begin < position || origin.begin % kPageTokens != 0 || origin.end <= origin.begin ||
        origin.end > kMaxTokens) {
      throw Error(ErrorCode::kInvalidArgument,
                  "origins must be ascending ranges that do not overlap and begin at multiples of "
                  "512, got [" +
                      std::to_string(origin.begin) + ", " + std::to_string(origin.end) + ")");
    }
    position = origin.end;
  }
}

/// The two files that a chunk is being written into.
struct OpenChunk {
  OpenChunk(UniqueFd session_folder, const SegmentSpec& spec, const CancellationFlag& cancellation)
      : folder(std::move(session_folder)),
        begin(spec.begin),
        end(spec.end),
        keys(folder.get(), WithKind(spec, SegmentKind::kKeys), cancellation),
        values(folder.get(), WithKind(spec, SegmentKind::kValues), cancellation) {}

  UniqueFd folder;
  std::int64_t begin;
  std::int64_t end;
  SegmentWriter keys;
  SegmentWriter values;
};

class PrefillSessionImpl final : public PrefillSession {
 public:
  PrefillSessionImpl(std::shared_ptr<ValueStore> store, const SessionKey& key,
                     const KvGeometry& geometry, std::int32_t hidden_size,
                     std::vector<SegmentOrigin> origins)
      : store_(std::move(store)),
        key_(key),
        geometry_(geometry),
        hidden_size_(hidden_size),
        origins_(std::move(origins)) {
    CheckSpec(OwnSpec(0, kPageTokens));
    CheckOrigins(origins_);
    Adopt();
  }

  const SessionKey& key() const override { return key_; }
  const KvGeometry& geometry() const override { return geometry_; }
  std::int64_t tokens() const override { return segments_.empty() ? 0 : segments_.back().info.end; }
  CancellationFlag& cancellation() override { return cancellation_; }

  std::vector<SegmentInfo> segments() const override {
    std::vector<SegmentInfo> infos;
    for (const Segment& segment : segments_) infos.push_back(segment.info);
    return infos;
  }

  KvPages BeginChunk(std::int64_t begin, std::int64_t end) override;
  void VerifyLayer(std::int32_t layer) override {
    for (Segment& segment : segments_) segment.VerifyLayer(layer, cancellation_);
  }
  SegmentInfo FinishChunk(std::span<const float> last_hidden) override;
  void AbandonChunk() override;
  std::vector<std::uint8_t> Seal() override;

 private:
  /// Of a segment that this session writes.
  SegmentSpec OwnSpec(std::int64_t begin, std::int64_t end) const {
    return {key_, geometry_, hidden_size_, SegmentKind::kKeys, begin, end, key_.fingerprint};
  }
  /// Of a segment that is on disk: its maker is the origin's that it lies in.
  SegmentSpec FoundSpec(std::int64_t begin, std::int64_t end) const {
    SegmentSpec spec = OwnSpec(begin, end);
    for (const SegmentOrigin& origin : origins_) {
      if (origin.begin <= begin && end <= origin.end) spec.maker = origin.fingerprint;
    }
    return spec;
  }
  void Adopt();
  bool AdoptNext(int folder_fd, const std::vector<SegmentName>& names);
  /// Pages of a segment (or of a chunk being written) join the page table.
  template <typename File>
  void AddPages(const File& keys, const File& values, std::int64_t pages);

  std::shared_ptr<ValueStore> store_;
  SessionKey key_;
  KvGeometry geometry_;
  std::int32_t hidden_size_;
  std::vector<SegmentOrigin> origins_;
  std::vector<Segment> segments_;
  std::optional<OpenChunk> chunk_;
  std::vector<std::byte*> k_pages_;
  std::vector<std::byte*> v_pages_;
  CancellationFlag cancellation_;
};

template <typename File>
void PrefillSessionImpl::AddPages(const File& keys, const File& values, std::int64_t pages) {
  k_pages_.reserve(k_pages_.size() + static_cast<std::size_t>(pages));
  v_pages_.reserve(v_pages_.size() + static_cast<std::size_t>(pages));
  for (std::int64_t page = 0; page < pages; ++page) {
    k_pages_.push_back(keys.Page(page));
    v_pages_.push_back(values.Page(page));
  }
}

/// Takes over what an earlier process finished, and removes what nobody can use any more: files of
/// this stage that are unfinished, of an older epoch, damaged, or behind a gap. Files of another
/// stage belong to another worker; those of a newer epoch to our successor.
void PrefillSessionImpl::Adopt() {
  const UniqueFd folder = AsStoreDirectory(store_).OpenSessionFolder(key_.session_id, false);
  if (!folder.valid()) return;
  std::vector<std::pair<std::string, SegmentName>> ours;
  std::vector<SegmentName> candidates;
  for (std::string& name : ListDirectory(folder.get())) {
    const std::optional<SegmentName> parsed = ParseSegmentName(name);
    if (!parsed || parsed->stage != key_.stage || parsed->epoch > key_.epoch) continue;
    if (parsed->epoch == key_.epoch && parsed->finished) candidates.push_back(*parsed);
    ours.emplace_back(std::move(name), *parsed);
  }
  while (AdoptNext(folder.get(), candidates)) {
  }
  std::set<std::string> kept;
  for (const Segment& segment : segments_) {
    const SegmentSpec spec = OwnSpec(segment.info.begin, segment.info.end);
    kept.insert(SegmentFileName(WithKind(spec, SegmentKind::kKeys)));
    kept.insert(SegmentFileName(WithKind(spec, SegmentKind::kValues)));
  }
  for (const auto& [name, parsed] : ours) {
    if (!kept.contains(name)) unlinkat(folder.get(), name.c_str(), 0);
  }
}

/// Adopts the segment that begins where the adopted ones end; false when there is none.
bool PrefillSessionImpl::AdoptNext(int folder_fd, const std::vector<SegmentName>& names) {
  const std::int64_t position = tokens();
  if (position % kPageTokens != 0) return false;
  for (const SegmentName& name : names) {
    if (name.kind != SegmentKind::kKeys || name.begin != position) continue;
    if (name.end <= name.begin || name.end > kMaxTokens) continue;
    try {
      Segment segment = Segment::Open(folder_fd, FoundSpec(name.begin, name.end));
      AddPages(segment.keys, segment.values, PagesOf(name.end - name.begin));
      segments_.push_back(std::move(segment));
      return true;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kDataLoss) throw;
    }
  }
  return false;
}

KvPages PrefillSessionImpl::BeginChunk(std::int64_t begin, std::int64_t end) {
  if (chunk_) throw Error(ErrorCode::kInternal, "a chunk of this session is already open");
  if (begin != tokens()) {
    throw Error(ErrorCode::kInvalidArgument, "the next chunk must begin at " +
                                                 std::to_string(tokens()) + ", got " +
                                                 std::to_string(begin));
  }
  const SegmentSpec spec = OwnSpec(begin, end);
  CheckSpec(spec);
  chunk_.emplace(AsStoreDirectory(store_).OpenSessionFolder(key_.session_id, true), spec,
                 cancellation_);
  AddPages(chunk_->keys, chunk_->values, spec.Pages());
  return {k_pages_, v_pages_};
}

SegmentInfo PrefillSessionImpl::FinishChunk(std::span<const float> last_hidden) {
  if (!chunk_) throw Error(ErrorCode::kInternal, "no chunk of this session is open");
  if (last_hidden.size() != static_cast<std::size_t>(hidden_size_)) {
    throw Error(ErrorCode::kInternal, "the last hidden row has a wrong length");
  }
  segments_.reserve(segments_.size() + 1);
  chunk_->keys.Complete(last_hidden, cancellation_);
  chunk_->values.Complete({}, cancellation_);
  // Whatever allocates comes before the names: once a file has its name, nothing may fail, or the
  // name would stand in the way of the chunk's next attempt.
  Segment segment(chunk_->begin, chunk_->end, std::move(chunk_->keys).TakeFile(),
                  std::move(chunk_->values).TakeFile());
  // K last: a segment counts as finished once its K file has its name.
  chunk_->values.Publish();
  try {
    chunk_->keys.Publish();
  } catch (...) {
    chunk_->values.Unpublish();
    throw;
  }
  segments_.push_back(std::move(segment));
  chunk_.reset();
  return segments_.back().info;
}

void PrefillSessionImpl::AbandonChunk() {
  chunk_.reset();
  const auto pages = static_cast<std::size_t>(PagesOf(tokens()));
  k_pages_.resize(pages);
  v_pages_.resize(pages);
}

std::vector<std::uint8_t> PrefillSessionImpl::Seal() {
  if (segments_.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "a session without tokens cannot be sealed");
  }
  cancellation_.ThrowIfCancelled();
  HandOff hand_off;
  hand_off.tokens = tokens();
  const std::span<const float> row = segments_.back().keys.last_hidden();
  hand_off.last_hidden.assign(row.begin(), row.end());
  for (const Segment& segment : segments_) {
    hand_off.segments.push_back({segment.info.begin, segment.info.end, segment.keys.header_crc(),
                                 segment.values.header_crc(), segment.keys.maker()});
  }
  return WriteHandOff(key_, geometry_, hand_off);
}

}  // namespace

std::shared_ptr<PrefillSession> PrefillSession::Open(std::shared_ptr<ValueStore> store,
                                                     const SessionKey& key,
                                                     const KvGeometry& geometry,
                                                     std::int32_t hidden_size,
                                                     std::vector<SegmentOrigin> origins) {
  return std::make_shared<PrefillSessionImpl>(std::move(store), key, geometry, hidden_size,
                                              std::move(origins));
}

}  // namespace longshadow
