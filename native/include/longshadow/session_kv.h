#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "longshadow/cancellation.h"
#include "longshadow/kv_pages.h"
#include "longshadow/value_store.h"

namespace longshadow {

/// 128 bits that name (model, weights, dtype, resolved policy, session, epoch, layer range).
/// Made by the services; native code stamps and compares it.
using Fingerprint = std::array<std::uint8_t, 16>;

/// Who a segment belongs to. Everything here is in each file's header.
struct SessionKey {
  std::string session_id;  // ^[0-9a-f]{32}$
  std::uint32_t epoch = 0;
  std::uint32_t stage = 0;
  std::int32_t layer_begin = 0;  // absolute, [layer_begin, layer_begin + geometry.layers)
  Fingerprint fingerprint{};
};

/// Positions [begin, end) whose segments another session, or an earlier plan of this one, made.
/// They are linked into the session's folder under its own names; their headers are their maker's.
struct SegmentOrigin {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  Fingerprint fingerprint{};  // the maker's
};

/// One finished segment: K and V of positions [begin, end) at a stage, two immutable files.
struct SegmentInfo {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t bytes = 0;  // both files
};

/// The KV of a session while a worker prefills it. The mapped segment files are the cache.
/// Not thread-safe but for cancellation().
class PrefillSession {
 public:
  /// Adopts the finished segments of the same key that lie on disk from position 0 on without a
  /// gap (a restarted worker continues there); removes unfinished files of this key. A segment
  /// within an origin must carry the origin's fingerprint, every other one the key's; one that does
  /// not is treated as damaged: not adopted, and removed.
  /// origins: ascending, not overlapping, from multiples of 512 on (kInvalidArgument).
  /// hidden_size: length of the last hidden row kept with each segment.
  static std::shared_ptr<PrefillSession> Open(std::shared_ptr<ValueStore> store,
                                              const SessionKey& key, const KvGeometry& geometry,
                                              std::int32_t hidden_size,
                                              std::vector<SegmentOrigin> origins = {});
  virtual ~PrefillSession() = default;

  virtual const SessionKey& key() const = 0;
  virtual const KvGeometry& geometry() const = 0;
  /// Finished tokens: positions [0, tokens()) are sealed in segments.
  virtual std::int64_t tokens() const = 0;
  virtual std::vector<SegmentInfo> segments() const = 0;
  virtual CancellationFlag& cancellation() = 0;

  /// Makes room for [begin, end) (begin == tokens(), a multiple of 512): takes the space with
  /// posix_fallocate (kValueStoreFull), maps it, and returns the page table over [0, end).
  virtual KvPages BeginChunk(std::int64_t begin, std::int64_t end) = 0;
  /// Checks each plane of `layer` of the finished segments that this process has not checked
  /// since it mapped them. Throws kDataLoss. Cheap when all is checked.
  virtual void VerifyLayer(std::int32_t layer) = 0;
  /// Checksums, syncs the header, renames both files. `last_hidden` [hidden_size] is the residual
  /// row at end - 1 after the stage's last layer.
  virtual SegmentInfo FinishChunk(std::span<const float> last_hidden) = 0;
  /// Drops the chunk that BeginChunk opened. Safe to call when none is open.
  virtual void AbandonChunk() = 0;
  /// The hand-off of a fully prefilled session: magic, version, length, CRC32C, key, geometry,
  /// last hidden row, and the manifest of segments with each one's fingerprint. kInvalidArgument
  /// when tokens() == 0.
  virtual std::vector<std::uint8_t> Seal() = 0;
};

/// The KV of a session that decodes: mapped segments of the hand-off, then private pages from
/// the last multiple of 512 on (the rows of a partial last page are copied). Not thread-safe but
/// for cancellation().
class DecodeSession {
 public:
  /// Checks the hand-off's length, CRC, key and geometry (kDataLoss on any mismatch) and maps its
  /// segments read-only; each must carry the fingerprint that the hand-off lists for it.
  static std::shared_ptr<DecodeSession> Open(std::shared_ptr<ValueStore> store,
                                             std::span<const std::uint8_t> hand_off,
                                             const SessionKey& expected, const KvGeometry& geometry,
                                             std::int32_t hidden_size);
  /// An empty session on private pages, without a store: the CLI's and the tests' way in.
  static std::shared_ptr<DecodeSession> OpenScratch(const KvGeometry& geometry);

  virtual ~DecodeSession() = default;
  virtual const KvGeometry& geometry() const = 0;
  virtual std::int64_t tokens() const = 0;
  /// Residual row after the last appended token; empty for a new scratch session.
  virtual std::vector<float>& last_hidden() = 0;
  virtual CancellationFlag& cancellation() = 0;
  /// Private bytes held now.
  virtual std::int64_t private_bytes() const = 0;

  /// Room for `rows` more positions; returns the page table over [0, tokens() + rows).
  virtual KvPages Extend(std::int64_t rows) = 0;
  /// The rows of the last Extend are now part of the session.
  virtual void Commit(std::int64_t rows) = 0;
  /// As PrefillSession::VerifyLayer, over the mapped segments.
  virtual void VerifyLayer(std::int32_t layer) = 0;
};

}  // namespace longshadow
