import { randomBytes } from 'node:crypto';
import {
  closeEngine,
  engineInfo,
  openEngine,
  removeSessionFiles,
  type ComputeDtype,
  type Device,
  type EngineHandle,
  type EngineInfo,
} from '../../../native/ts/index.js';
import type { PrefillPolicy } from '../../domain/policy.js';
import { ServingError } from '../../domain/serving-error.js';
import type { ResolvedSparsePolicy } from '../../domain/sparse-policy.js';
import { nativeSparsePolicy } from '../../engine-host/native-sparse-policy.js';
import { type LoadedPatterns, loadPatterns } from '../../platform/patterns/load-patterns.js';
import { checkPatternShape } from '../../platform/patterns/parse-patterns.js';
import { withOwnStore } from '../engine/own-store.js';
import { benchLines, type BenchLine } from './bench-lines.js';
import { benchPromptIds } from './bench-prompt.js';
import {
  interleavedPrefill,
  type MeasuredChunk,
  type MeasuredPolicy,
} from './interleaved-prefill.js';

const CUT_RULE = 'cpu';

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
  readonly sparse: Omit<ResolvedSparsePolicy, 'patternsSha256'>;
  /** Dense chunks from this position on follow from the cost law instead; Infinity: none. */
  readonly denseUntilToken: number;
}

/**
 * Prefills one prompt under every policy and says what each cost.
 *
 * @param onChunk after each chunk of each policy
 * @throws ServingError for a model, a pattern file or a length that does not fit
 */
export async function measurePrefill(
  bench: PrefillBench,
  onChunk: (chunk: MeasuredChunk) => void,
): Promise<BenchLine[]> {
  const patterns = await loadPatterns(bench.modelDirectory, bench.patternsFile);
  const { modelDirectory, device, dtype, threads } = bench;
  const engine = await openEngine({
    ...{ modelDirectory, device, dtype, threads, layerBegin: 0, layerEnd: null },
  });
  try {
    const info = engineInfo(engine);
    if (patterns.path !== null) checkPatternShape(patterns.patterns, info, patterns.path);
    if (bench.tokens > info.maxPositions) {
      throw new ServingError(
        'PROMPT_TOO_LONG',
        `--tokens ${String(bench.tokens)}: the model takes ${String(info.maxPositions)}`,
      );
    }
    const policies = bench.policies.map((policy) => measuredPolicy(policy, bench, info, patterns));
    return await inOwnStore(engine, policies, bench, onChunk);
  } finally {
    await closeEngine(engine);
  }
}

async function inOwnStore(
  engine: EngineHandle,
  policies: readonly MeasuredPolicy[],
  bench: PrefillBench,
  onChunk: (chunk: MeasuredChunk) => void,
): Promise<BenchLine[]> {
  const tokenIds = await benchPromptIds(bench.modelDirectory, bench.tokens);
  return withOwnStore(async (store) => {
    const sessionIds = policies.map(() => randomBytes(16).toString('hex'));
    const chunks: MeasuredChunk[] = [];
    const running = interleavedPrefill(engine, store, sessionIds, policies, tokenIds, CUT_RULE);
    for await (const chunk of running) {
      chunks.push(chunk);
      onChunk(chunk);
    }
    for (const sessionId of sessionIds) removeSessionFiles(store, sessionId);
    return benchLines(policies, chunks, bench.tokens, CUT_RULE);
  });
}

function measuredPolicy(
  prefillPolicy: PrefillPolicy,
  bench: PrefillBench,
  { layerBegin, layerEnd, queryHeads }: EngineInfo,
  patterns: LoadedPatterns,
): MeasuredPolicy {
  if (prefillPolicy === 'dense') {
    return { name: prefillPolicy, sparse: null, untilToken: bench.denseUntilToken };
  }
  const patternsSha256 = prefillPolicy === 'minference' ? patterns.sha256 : '';
  const sparse = nativeSparsePolicy(
    {
      ...{ prefillPolicy, cachePolicy: 'full', dtype: bench.dtype, cutRule: CUT_RULE },
      sparse: { ...bench.sparse, patternsSha256 },
    },
    { patterns, layerBegin, layerEnd, queryHeads },
  );
  return { name: prefillPolicy, sparse, untilToken: Infinity };
}
