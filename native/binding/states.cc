#include "states.h"

namespace longshadow::binding {
namespace {

/// Destroys an engine whose handle was collected without closeEngine.
class DestroyEngineTask final : public Task {
 public:
  explicit DestroyEngineTask(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}
  void Run() override { engine_.reset(); }
  void Cancel() override {}

 private:
  std::shared_ptr<Engine> engine_;
};

}  // namespace

EngineState::EngineState(std::shared_ptr<Environment> environment,
                         std::shared_ptr<JobThread> thread, std::shared_ptr<Engine> engine)
    : environment_(std::move(environment)),
      thread_(std::move(thread)),
      engine_(std::move(engine)),
      info_(engine_->info()) {
  environment_->AdjustExternalMemory(info_.packed_bytes);
}

EngineState::~EngineState() {
  std::shared_ptr<Engine> engine = TakeEngine();
  if (engine) thread_->Push(std::make_unique<DestroyEngineTask>(std::move(engine)));
  thread_->Stop();
}

Engine& EngineState::engine() const {
  if (!engine_) RefuseArgument("the engine is closed");
  return *engine_;
}

std::shared_ptr<Engine> EngineState::TakeEngine() {
  if (engine_) environment_->AdjustExternalMemory(-info_.packed_bytes);
  return std::move(engine_);
}

}  // namespace longshadow::binding
