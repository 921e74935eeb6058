#pragma once

#include <cstdint>
#include <memory>

#include "longshadow/backend.h"

namespace longshadow {

/// The backend "cpu". threads: 0 for one a core that this process may run on.
/// Throws kUnsupported when LONGSHADOW_CPU_ISA names an unknown path or one this CPU lacks, and
/// on a CPU without AVX2.
std::unique_ptr<Backend> MakeCpuBackend(std::int32_t threads);

}  // namespace longshadow
