#pragma once

#include "kernels.h"

namespace longshadow::cpu {

/// The code path of this process: the fastest one on this CPU, or the one LONGSHADOW_CPU_ISA names.
/// Throws kUnsupported when the value is unknown, when this CPU (or its operating system) lacks
/// that path, and on a CPU without AVX2 and FMA.
const Kernels& ChooseKernels();

}  // namespace longshadow::cpu
