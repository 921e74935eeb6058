import { z } from 'zod';
import { HEAD_PATTERNS } from '../domain/head-pattern.js';
import { MAX_TILES_PER_BLOCK, type ResolvedSparsePolicy } from '../domain/sparse-policy.js';
import type { SparseWork } from '../domain/sparse-work.js';

/* What records, job results and calls between services say of sparse prefill, checked where it is read. */

const count = z.number().int().nonnegative();
const amount = z.number().nonnegative();
const byPattern = z.array(count).length(HEAD_PATTERNS.length);

export const sparsePolicySchema = z.object({
  denseBelowTokens: count,
  tilesPerBlock: count.min(1).max(MAX_TILES_PER_BLOCK),
  tilesOverrideFile: z.boolean(),
  patternsSha256: z.string().regex(/^(?:[0-9a-f]{64})?$/),
  gamma: z.number().gt(0).max(1),
  tau: amount,
  minTiles: count,
  guardInterval: count,
}) satisfies z.ZodType<ResolvedSparsePolicy>;

export const sparseWorkSchema = z
  .object({
    sparseTokens: count,
    denseTokens: count,
    attendedKeys: byPattern,
    causalKeys: byPattern,
    layerAttendedKeys: z.array(count),
    layerCausalKeys: z.array(count),
    estimateMicros: amount,
    indexMicros: amount,
    attentionMicros: amount,
    guardBlocks: count,
    guardErrorSum: amount,
    guardErrorMax: amount,
  })
  .refine(
    ({ layerAttendedKeys, layerCausalKeys }) => layerAttendedKeys.length === layerCausalKeys.length,
    { path: ['layerCausalKeys'], message: 'must have as many layers as layerAttendedKeys' },
  ) satisfies z.ZodType<SparseWork>;
