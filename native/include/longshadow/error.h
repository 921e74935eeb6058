#pragma once

#include <stdexcept>
#include <string>

namespace longshadow {

/// Failures a caller can act on. Names match native/ts/errors.ts.
enum class ErrorCode {
  kInvalidArgument,  // the caller passed something out of range
  kModelInvalid,     // a model folder is missing, corrupt or not a supported shape
  kUnsupported,      // valid, but this build or device cannot do it
  kValueStoreFull,   // no room in the value store, or posix_fallocate refused
  kDataLoss,         // a checksum, length or fingerprint does not match; never decoded
  kCancelled,        // the session was cancelled while the call ran
  kIo,               // the operating system refused a file operation
  kInternal,         // a bug
};

/// "INVALID_ARGUMENT", "MODEL_INVALID", ... The spelling that crosses the native seam.
const char* ErrorCodeName(ErrorCode code);

/// The one exception type of the library. `what()` says what to change.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace longshadow
