#pragma once

#include <memory>

#include "longshadow/backend.h"

namespace longshadow {

/// The backend "reference": plain loops with fp64 accumulation on one thread, never tuned. Tests
/// and the CLI's oracle compare others with it.
std::unique_ptr<Backend> MakeReferenceBackend();

}  // namespace longshadow
