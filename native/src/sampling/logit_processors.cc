#include "sampling/logit_processors.h"

#include <algorithm>
#include <cmath>

namespace longshadow {
namespace {

bool Better(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

double Mass(std::span<const Candidate> candidates) {
  double mass = 0;
  for (const Candidate& candidate : candidates) mass += std::exp(candidate.score);
  return mass;
}

}  // namespace

std::vector<Candidate> ApplyTemperature(std::span<const float> logits, float max_logit,
                                        float temperature) {
  std::vector<Candidate> candidates(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double below = static_cast<double>(logits[i]) - static_cast<double>(max_logit);
    candidates[i] = {static_cast<std::uint32_t>(i), below / static_cast<double>(temperature)};
  }
  return candidates;
}

void KeepTopK(std::vector<Candidate>& candidates, std::int32_t k) {
  const auto keep = static_cast<std::size_t>(k);
  if (keep >= candidates.size()) return;
  std::nth_element(candidates.begin(), candidates.begin() + k, candidates.end(), Better);
  candidates.resize(keep);
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

void KeepTopP(std::vector<Candidate>& candidates, float p) {
  const double target = static_cast<double>(p) * Mass(candidates);
  // Sorted piecemeal: a few hundred tokens nearly always hold the mass, of 100,000 and more.
  std::size_t sorted = 0;
  std::size_t kept = 0;
  double mass = 0;
  while (kept < candidates.size() && (kept == 0 || mass < target)) {
    if (kept == sorted) {
      sorted = std::min(candidates.size(), std::max<std::size_t>(256, 4 * sorted));
      std::partial_sort(candidates.begin() + static_cast<std::ptrdiff_t>(kept),
                        candidates.begin() + static_cast<std::ptrdiff_t>(sorted), candidates.end(),
                        Better);
    }
    mass += std::exp(candidates[kept].score);
    ++kept;
  }
  candidates.resize(kept);
}

std::uint32_t Draw(std::span<const Candidate> candidates, double uniform) {
  const double target = uniform * Mass(candidates);
  double mass = 0;
  for (const Candidate& candidate : candidates) {
    mass += std::exp(candidate.score);
    if (mass > target) return candidate.id;
  }
  return candidates.back().id;
}

}  // namespace longshadow
