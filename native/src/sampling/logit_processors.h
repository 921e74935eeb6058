#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longshadow {

/// A token that may still be drawn. `score` is its logit below the largest one, divided by the
/// temperature; its unnormalised probability is exp(score).
struct Candidate {
  std::uint32_t id;
  double score;
};

/// All tokens, in order of ids. temperature > 0. Differences are taken before the division, so
/// that a tiny temperature cannot overflow. max_logit: the largest of `logits`.
std::vector<Candidate> ApplyTemperature(std::span<const float> logits, float max_logit,
                                        float temperature);

/// Keeps the k largest scores (ties by lower id), in order of ids. k >= 1.
void KeepTopK(std::vector<Candidate>& candidates, std::int32_t k);

/// Keeps the shortest run of largest scores (ties by lower id) whose probability reaches p, and at
/// least one; largest first. p in (0, 1].
void KeepTopP(std::vector<Candidate>& candidates, float p);

/// The candidate at cumulative probability `uniform` in [0, 1), in the order given.
std::uint32_t Draw(std::span<const Candidate> candidates, double uniform);

}  // namespace longshadow
