import type { TokenRange } from '../../domain/token-range.js';
import { sum } from '../eval/report/statistics.js';
import { type BenchPosition, benchPositions } from './bench-positions.js';
import type { ChunkCost } from './chunk-cost.js';
import type { MeasuredChunk, MeasuredPolicy } from './interleaved-prefill.js';
import { layerDensities, tileDensity } from './key-density.js';
import { type PolicyCosts, policyCosts, secondsOf } from './policy-costs.js';
import { speedUp } from './speed-up.js';
import type { Spread } from './spread.js';

/** What one policy cost, as `longshadow bench prefill --json` prints it. */
export interface BenchLine {
  readonly policy: string;
  readonly tokens: number;
  /** Time inside the engine, summed over chunks; of each chunk the median of the repeats. */
  readonly seconds: number;
  /** Share of dense attention's key tiles over all rows, layers and query heads, (0, 1]. */
  readonly tile_density: number;
  /** The same by layer; null for dense prefill. */
  readonly layer_density: readonly number[] | null;
  readonly repeats: number;
  /** The part of `seconds` that was not measured but follows from the cost law; 0: all measured. */
  readonly extrapolated_seconds: number;
  /** The chunks that the cost law is fitted to; null: none is needed. */
  readonly extrapolated_from: LawSource | null;
  readonly attention_seconds: number;
  /** Of the attention: scores and selection of keys, and their index. */
  readonly estimate_seconds: number;
  readonly index_seconds: number;
  /** Dense seconds over this policy's, the dense policy of the same run; null without and for one. */
  readonly speedup: number | null;
  /** The same of the chunks that dense prefill ran. */
  readonly measured_speedup: number | null;
  /** `speedup` of each repeat by itself. */
  readonly repeat_speedups: readonly number[] | null;
  /** Ratios of single chunks, over those that dense prefill ran. */
  readonly chunk_speedup: ChunkSpeedUp | null;
  /** Of blocks that were computed densely too: mean and largest relative error. Null: none were. */
  readonly guard_error_mean: number | null;
  readonly guard_error_max: number | null;
  readonly positions: readonly BenchPosition[];
}

interface LawSource {
  readonly begin_token: number;
  readonly end_token: number;
  readonly chunks: number;
  /** Root mean square of the law's relative misses of these chunks; null for one chunk. */
  readonly residual: number | null;
}

interface ChunkSpeedUp {
  readonly chunks: number;
  readonly least: number;
  readonly lower_quartile: number;
  readonly median: number;
  readonly upper_quartile: number;
  readonly greatest: number;
}

/** A run's figures: lines for print, and the costs that pictures are drawn of. */
export interface BenchFigures {
  readonly lines: readonly BenchLine[];
  readonly costs: readonly PolicyCosts[];
}

/**
 * @param chunks of all policies and repeats, in order of their positions within each
 * @param plan the prompt's chunks
 */
export function benchFigures(
  policies: readonly MeasuredPolicy[],
  chunks: readonly MeasuredChunk[],
  plan: readonly TokenRange[],
): BenchFigures {
  const runs = policies.map(({ name, sparse }) => {
    const own = chunks.filter(({ policy }) => policy === name);
    return { isDense: sparse === null, chunks: own, costs: policyCosts(name, own, plan) };
  });
  const dense = runs.find(({ isDense }) => isDense) ?? null;
  return {
    lines: runs.map((run) => benchLine(run, run.isDense ? null : dense, plan)),
    costs: runs.map(({ costs }) => costs),
  };
}

interface PolicyRun {
  readonly isDense: boolean;
  readonly chunks: readonly MeasuredChunk[];
  readonly costs: PolicyCosts;
}

function benchLine(
  { isDense, chunks, costs }: PolicyRun,
  dense: PolicyRun | null,
  plan: readonly TokenRange[],
): BenchLine {
  const total = (of: (cost: ChunkCost) => number): number => sum(costs.costs.map(of));
  const speed = dense === null ? null : speedUp(chunks, dense.chunks, plan);
  return {
    policy: costs.policy,
    tokens: plan.at(-1)?.endToken ?? 0,
    seconds: secondsOf(costs.costs),
    tile_density: tileDensity(chunks),
    layer_density: isDense ? null : layerDensities(chunks),
    repeats: new Set(chunks.map(({ repeat }) => repeat)).size,
    extrapolated_seconds: secondsOf(costs.costs, ({ isMeasured }) => !isMeasured),
    extrapolated_from: lawSource(costs),
    attention_seconds: total(({ attentionSeconds }) => attentionSeconds),
    estimate_seconds: total(({ estimateSeconds }) => estimateSeconds),
    index_seconds: total(({ indexSeconds }) => indexSeconds),
    speedup: speed?.whole ?? null,
    measured_speedup: speed?.measured ?? null,
    repeat_speedups: speed?.byRepeat ?? null,
    chunk_speedup: speed === null ? null : chunkSpeedUp(speed.byChunk),
    ...guardErrors(chunks),
    positions: benchPositions(costs, chunks, dense?.costs ?? null, plan),
  };
}

function lawSource({ law }: PolicyCosts): LawSource | null {
  if (law === null) return null;
  const { fittedTo, chunks, residual } = law;
  return { begin_token: fittedTo.beginToken, end_token: fittedTo.endToken, chunks, residual };
}

function chunkSpeedUp(spread: Spread): ChunkSpeedUp {
  return {
    chunks: spread.count,
    least: spread.least,
    lower_quartile: spread.lowerQuartile,
    median: spread.median,
    upper_quartile: spread.upperQuartile,
    greatest: spread.greatest,
  };
}

function guardErrors(
  chunks: readonly MeasuredChunk[],
): Pick<BenchLine, 'guard_error_mean' | 'guard_error_max'> {
  const blocks = sum(chunks.map(({ result }) => result.sparse.guardBlocks));
  if (blocks === 0) return { guard_error_mean: null, guard_error_max: null };
  return {
    guard_error_mean: sum(chunks.map(({ result }) => result.sparse.guardErrorSum)) / blocks,
    guard_error_max: Math.max(...chunks.map(({ result }) => result.sparse.guardErrorMax)),
  };
}
