import {
  closeEngine,
  engineInfo,
  openEngine,
  valueStoreFreeBytes,
  type ComputeDtype,
  type Device,
  type EngineHandle,
  type EngineInfo,
  type ValueStoreHandle,
} from '../../../native/ts/index.js';
import { planPrefillChunks } from '../../domain/plan-prefill-chunks.js';
import type { PrefillPolicy } from '../../domain/policy.js';
import { ServingError } from '../../domain/serving-error.js';
import { loadPatterns } from '../../platform/patterns/load-patterns.js';
import { withOwnStore } from '../engine/own-store.js';
import { sum } from '../eval/report/statistics.js';
import { formatBytes } from '../output/format.js';
import { type BenchFigures, benchFigures } from './bench-lines.js';
import { BENCH_CUT_RULE, benchPolicy, type BenchThresholds } from './bench-policy.js';
import { benchPromptIds } from './bench-prompt.js';
import {
  interleavedPrefill,
  type MeasuredChunk,
  type MeasuredPolicy,
} from './interleaved-prefill.js';

/** What `longshadow bench prefill` measures. */
export interface PrefillBench {
  readonly modelDirectory: string;
  readonly tokens: number;
  readonly policies: readonly PrefillPolicy[];
  readonly device: Device;
  readonly dtype: ComputeDtype;
  /** Of the engine; 0: one a core. */
  readonly threads: number;
  readonly patternsFile: string | null;
  readonly thresholds: BenchThresholds;
  /** Dense chunks from this position on follow from the cost law instead; Infinity: none. */
  readonly denseUntilToken: number;
  /** Times that the whole prompt is run under every policy, 1 or more. */
  readonly repeats: number;
}

/** The figures, and which kernels they are of. */
export interface MeasuredPrefill extends BenchFigures {
  readonly instructionSet: string;
}

/**
 * Prefills one prompt under every policy and says what each cost.
 *
 * @param onChunk after each chunk of each policy
 * @param stop rejects what runs; nothing is left behind
 * @throws ServingError for a model, a pattern file or a length that does not fit
 */
export async function measurePrefill(
  bench: PrefillBench,
  onChunk: (chunk: MeasuredChunk) => void,
  stop: AbortSignal,
): Promise<MeasuredPrefill> {
  const { modelDirectory, device, dtype, threads, thresholds, tokens } = bench;
  const patterns = await loadPatterns(modelDirectory, bench.patternsFile);
  const engine = await openEngine({
    ...{ modelDirectory, device, dtype, threads, layerBegin: 0, layerEnd: null },
  });
  try {
    const info = engineInfo(engine);
    refuseLong(tokens, info);
    const policies = bench.policies.map((name) => ({
      name,
      sparse: benchPolicy(name, dtype, thresholds, info, patterns),
      untilToken: name === 'dense' ? bench.denseUntilToken : Infinity,
    }));
    const chunks = await withOwnStore(async (store) => {
      refuseFull(store, policies, tokens, info);
      return runRepeats(engine, store, policies, bench, onChunk, stop);
    });
    const figures = benchFigures(policies, chunks, planPrefillChunks(tokens, BENCH_CUT_RULE));
    return { ...figures, instructionSet: info.instructionSet };
  } finally {
    await closeEngine(engine);
  }
}

async function runRepeats(
  engine: EngineHandle,
  store: ValueStoreHandle,
  policies: readonly MeasuredPolicy[],
  { modelDirectory, tokens, repeats }: PrefillBench,
  onChunk: (chunk: MeasuredChunk) => void,
  stop: AbortSignal,
): Promise<MeasuredChunk[]> {
  const tokenIds = await benchPromptIds(modelDirectory, tokens, stop);
  const run = { policies, tokenIds, cutRule: BENCH_CUT_RULE, stop };
  const chunks: MeasuredChunk[] = [];
  for (let repeat = 0; repeat < repeats; repeat += 1) {
    for await (const chunk of interleavedPrefill(engine, store, { ...run, repeat })) {
      chunks.push(chunk);
      onChunk(chunk);
    }
  }
  return chunks;
}

function refuseLong(tokens: number, { maxPositions }: EngineInfo): void {
  if (tokens <= maxPositions) return;
  throw new ServingError(
    'PROMPT_TOO_LONG',
    `--tokens ${String(tokens)}: the model takes ${String(maxPositions)}`,
  );
}

/** Before an hour is spent rather than after. */
function refuseFull(
  store: ValueStoreHandle,
  policies: readonly MeasuredPolicy[],
  tokens: number,
  { kvBytesPerToken }: EngineInfo,
): void {
  const kept = sum(policies.map(({ untilToken }) => Math.min(tokens, untilToken)));
  const [needed, free] = [kept * kvBytesPerToken, valueStoreFreeBytes(store)];
  if (needed <= free) return;
  throw new ServingError(
    'VALUE_STORE_FULL',
    `keys and values of all policies take ${formatBytes(needed)} of memory at once, and ` +
      `${formatBytes(free)} are free: give a smaller --tokens or --dense-until, or fewer --policies`,
  );
}
