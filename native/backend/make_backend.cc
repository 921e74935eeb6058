#include <string>

#include "cpu/cpu_backend.h"
#include "longshadow/backend.h"
#include "longshadow/error.h"
#include "reference/reference_backend.h"

namespace longshadow {

std::unique_ptr<Backend> MakeBackend(std::string_view device, std::int32_t threads) {
  if (device == "cpu") return MakeCpuBackend(threads);
  if (device == "reference") return MakeReferenceBackend();
  throw Error(ErrorCode::kUnsupported, "device '" + std::string(device) +
                                           "' is not in this build; use 'cpu' or 'reference'");
}

}  // namespace longshadow
