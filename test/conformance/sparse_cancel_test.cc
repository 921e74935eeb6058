#include <atomic>
#include <chrono>
#include <thread>

#include "longshadow/error.h"
#include "test/conformance/sparse_support.h"

/// Choosing keys takes long on long prompts: it can be cancelled while it runs.
namespace longshadow::conformance {
namespace {

using Clock = std::chrono::steady_clock;

const HeadBudget kPatterns[] = {{HeadPattern::kVerticalSlash, 1000, 1000, 64},
                                {HeadPattern::kBlockSparse, 0, 0, 64},
                                {HeadPattern::kFlex, 0, 0, 0},
                                {HeadPattern::kKeyBounds, 0, 0, 64}};

class SparseCancelTest : public BackendTest {
 protected:
  /// Long enough to be met halfway.
  Batch LongChunk() {
    const Sequence chunk{1 << 18, 8192};
    return Batch(generator_, {1, 2, 64}, DType::kBF16, {&chunk, 1}, 2);
  }

  KeySelection Select(const Batch& b, const HeadBudget& budget, const CancellationFlag* interrupt,
                      float tau = 0.1F) {
    const std::vector<HeadBudget> budgets(static_cast<std::size_t>(b.shape.query_heads), budget);
    return backend_
        ->SelectKeys(b.q.View(), b.shape, b.geometry, 1, b.sequences[0], budgets, {0.95F, tau, 8},
                     interrupt)
        ->ToHost();
  }

  bool IsCancelled(const Batch& b, const HeadBudget& budget, const CancellationFlag& interrupt,
                   float tau = 0.1F) {
    try {
      Select(b, budget, &interrupt, tau);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCancelled);
      return true;
    }
    return false;
  }

  /// Raises the flag `delay` after choosing began; awake all the while, since a sleep may last
  /// longer than choosing does.
  bool IsCancelledAfter(Clock::duration delay, const Batch& b, const HeadBudget& budget,
                        float tau) {
    CancellationFlag interrupt;
    std::atomic<bool> begun{false};
    std::thread other([&] {
      while (!begun) std::this_thread::yield();
      const Clock::time_point end = Clock::now() + delay;
      while (Clock::now() < end) std::this_thread::yield();
      interrupt.Cancel();
    });
    begun = true;
    const bool cancelled = IsCancelled(b, budget, interrupt, tau);
    other.join();
    return cancelled;
  }

  void ExpectStopsHalfway(const Batch& b, const HeadBudget& budget, float tau = 0.1F) {
    const CancellationFlag never;
    const Clock::time_point begin = Clock::now();
    const KeySelection whole = Select(b, budget, &never, tau);
    Clock::duration delay = (Clock::now() - begin) / 2;
    bool cancelled = false;
    for (int attempt = 0; attempt < 20 && !cancelled; ++attempt, delay = delay * 7 / 8) {
      cancelled = IsCancelledAfter(delay, b, budget, tau);
    }
    EXPECT_TRUE(cancelled) << "pattern " << static_cast<int>(budget.pattern) << ", tau " << tau;
    const KeySelection again = Select(b, budget, nullptr, tau);
    for (std::size_t head = 0; head < whole.heads.size(); ++head) {
      EXPECT_EQ(again.heads[head].columns, whole.heads[head].columns);
      EXPECT_EQ(again.heads[head].blocks, whole.heads[head].blocks);
    }
  }
};

TEST_P(SparseCancelTest, NothingIsChosenOnceTheFlagIsRaised) {
  const Sequence chunk{128, 70};
  const Batch b(generator_, {1, 2, 64}, DType::kF32, {&chunk, 1});
  CancellationFlag raised;
  raised.Cancel();
  for (const HeadBudget& budget : kPatterns) EXPECT_TRUE(IsCancelled(b, budget, raised));
  EXPECT_TRUE(IsCancelled(b, {HeadPattern::kAShape, 10, 10, 0}, raised));
  EXPECT_TRUE(IsCancelled(b, {}, raised));
}

/// Backends that serve. On `reference` choosing is over before it can be met halfway.
using ServedSparseCancelTest = SparseCancelTest;

TEST_P(ServedSparseCancelTest, ChoosingStopsWhileItRuns) {
  const Batch b = LongChunk();
  for (const HeadBudget& budget : kPatterns) ExpectStopsHalfway(b, budget);
  ExpectStopsHalfway(b, kPatterns[2], 0);  // FlexPrefill's vertical-slash, then query-aware heads
  ExpectStopsHalfway(b, kPatterns[2], 1);
}

LONGSHADOW_ON_EVERY_BACKEND(SparseCancelTest);
INSTANTIATE_TEST_SUITE_P(Backends, ServedSparseCancelTest, ::testing::Values("cpu"));

}  // namespace
}  // namespace longshadow::conformance
