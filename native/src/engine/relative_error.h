#pragma once

#include "longshadow/backend.h"

namespace longshadow {

/// |approximate - exact| / |exact| over all elements, in fp64, of matrices of one shape and dtype.
/// 0 where they are equal, also where all is zero; 1 where it is no number.
double RelativeError(const ConstMatrixView& approximate, const ConstMatrixView& exact);

}  // namespace longshadow
