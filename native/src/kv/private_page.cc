#include "kv/private_page.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "kv/kv_counters.h"
#include "longshadow/error.h"

namespace longshadow {

PrivatePage::PrivatePage(std::int64_t page_bytes) : page_bytes_(page_bytes) {
  void* data = mmap(nullptr, static_cast<std::size_t>(bytes()), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    throw Error(ErrorCode::kValueStoreFull,
                "no memory for a private KV page of " + std::to_string(bytes()) + " bytes");
  }
  data_ = static_cast<std::byte*>(data);
  ProcessKvCounters().private_bytes += bytes();
}

PrivatePage::PrivatePage(PrivatePage&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), page_bytes_(other.page_bytes_) {}

PrivatePage::~PrivatePage() {
  if (data_ == nullptr) return;
  munmap(data_, static_cast<std::size_t>(bytes()));
  ProcessKvCounters().private_bytes -= bytes();
}

}  // namespace longshadow
