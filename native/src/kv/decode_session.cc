#include <algorithm>
#include <string>
#include <utility>

#include "kv/geometry_check.h"
#include "kv/private_page.h"
#include "longshadow/error.h"
#include "longshadow/session_kv.h"

namespace longshadow {
namespace {

class DecodeSessionImpl final : public DecodeSession {
 public:
  explicit DecodeSessionImpl(const KvGeometry& geometry) : geometry_(geometry) {
    CheckGeometry(geometry);
  }

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

  void VerifyLayer(std::int32_t) override {}

 private:
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
  std::vector<PrivatePage> private_pages_;
  std::vector<std::byte*> k_pages_;
  std::vector<std::byte*> v_pages_;
  CancellationFlag cancellation_;
};

}  // namespace

std::shared_ptr<DecodeSession> DecodeSession::OpenScratch(const KvGeometry& geometry) {
  return std::make_shared<DecodeSessionImpl>(geometry);
}

}  // namespace longshadow
