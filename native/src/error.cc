#include "longshadow/error.h"

namespace longshadow {

const char* ErrorCodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case ErrorCode::kModelInvalid:
      return "MODEL_INVALID";
    case ErrorCode::kUnsupported:
      return "UNSUPPORTED";
    case ErrorCode::kValueStoreFull:
      return "VALUE_STORE_FULL";
    case ErrorCode::kDataLoss:
      return "DATA_LOSS";
    case ErrorCode::kCancelled:
      return "CANCELLED";
    case ErrorCode::kIo:
      return "IO";
    case ErrorCode::kInternal:
      return "INTERNAL";
  }
  return "INTERNAL";
}

}  // namespace longshadow
