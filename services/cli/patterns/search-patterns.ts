import {
  closeEngine,
  engineInfo,
  openEngine,
  type EngineHandle,
  type EngineInfo,
  type ValueStoreHandle,
} from '../../../native/ts/index.js';
import { ServingError } from '../../domain/serving-error.js';
import { GENERATORS_VERSION } from '../eval/run/run-plan.js';
import { withOwnStore } from '../engine/own-store.js';
import { writeWhole } from '../output/write-whole.js';
import { candidateBudgets, searchCandidates } from './candidates.js';
import type { TrialShape } from './choose-patterns.js';
import { patternsText } from './patterns-text.js';
import type { SearchCall, SearchOptions } from './search-options.js';
import { SearchProgress } from './search-progress.js';
import { type PromptPlan, planPrompts, SearchPrompts } from './search-prompts.js';
import { SearchState } from './search-state.js';
import { type SearchSummary, summariseSearch } from './search-summary.js';
import { addSums, noTrials, sumsOf, type TrialSums } from './trial-sums.js';
import { tryPrompt } from './try-prompt.js';

/** A search under way. */
interface Search {
  readonly options: SearchOptions;
  readonly shape: TrialShape;
  readonly engine: EngineHandle;
  readonly prompts: SearchPrompts;
  readonly state: SearchState;
  readonly progress: SearchProgress;
  readonly stop: AbortSignal;
}

/**
 * Finds a pattern for each query head of a model and writes the pattern file. What is stopped goes on
 * from its last whole prompt when it is started again with the same options.
 *
 * @param stream gets the progress
 * @throws ServingError for a model, a length, a state or a file that does not fit
 */
export async function searchPatterns(
  options: SearchOptions,
  call: SearchCall,
  stream: NodeJS.WriteStream,
  stop: AbortSignal,
): Promise<SearchSummary> {
  const { modelDirectory, outFile, textFolder, threads, fresh } = call;
  const { device, dtype } = options;
  const engine = await openEngine({
    ...{ modelDirectory, device, dtype, threads, layerBegin: 0, layerEnd: null },
  });
  try {
    const info = engineInfo(engine);
    refuseLong(options, info);
    const { layers, queryHeads } = info;
    const shape = { layers, queryHeads, candidates: searchCandidates(options.tiles) };
    const places = layers * queryHeads * shape.candidates.length;
    const prompts = await SearchPrompts.load(modelDirectory, textFolder);
    const plan = { ...planOf(options, info), ...(await prompts.fingerprints()) };
    const state = await SearchState.open(outFile, plan, places, fresh);
    const extent = { ...options, prompts: options.prompts + options.heldOut };
    const progress = new SearchProgress(stream, extent, state.finishedPrompts, () =>
      performance.now(),
    );
    try {
      await runPrompts({ options, shape, engine, prompts, state, progress, stop });
    } finally {
      progress.stop();
      if (state.finishedPrompts === 0) await state.remove();
    }
    const summary = summariseSearch(state.calibration, state.heldOut, shape);
    await writeWhole(outFile, patternsText(summary.choices, shape.candidates, options.tiles));
    await state.remove();
    return summary;
  } finally {
    await closeEngine(engine);
  }
}

async function runPrompts(search: Search): Promise<void> {
  const { options, state, progress } = search;
  await withOwnStore(async (store) => {
    for (const plan of planPrompts(options).slice(state.finishedPrompts)) {
      await state.add(plan.isHeldOut, await tryOne(search, store, plan));
      progress.finishedPrompt();
    }
  });
}

async function tryOne(
  { options, shape, engine, prompts, progress, stop }: Search,
  store: ValueStoreHandle,
  plan: PromptPlan,
): Promise<TrialSums> {
  const { tokens, tiles, denseBelowTokens } = options;
  const tokenIds = await prompts.ids(plan, tokens);
  const { layers, queryHeads, candidates } = shape;
  let sums = noTrials(layers * queryHeads * candidates.length);
  const budgets = candidateBudgets(candidates, tiles);
  const trial = { tokenIds, budgets, denseBelowTokens, shown: null, stop };
  await tryPrompt(engine, store, trial, (chunk, result) => {
    if (result !== null) sums = addSums(sums, sumsOf(result));
    progress.chunk(chunk, tokenIds.length);
  });
  return sums;
}

function planOf(options: SearchOptions, info: EngineInfo): Record<string, string | number> {
  const { tokens, prompts, heldOut, tiles, denseBelowTokens, seed, device, dtype } = options;
  return {
    model: info.modelFingerprint,
    ...{ '--tokens': tokens, '--prompts': prompts, '--held-out': heldOut, '--tiles': tiles },
    ...{ '--dense-below': denseBelowTokens, '--seed': seed },
    ...{ '--device': device, '--dtype': dtype },
    generators: GENERATORS_VERSION,
    // A later version may try others.
    candidates: searchCandidates(tiles)
      .map(({ name }) => name)
      .join('; '),
  };
}

function refuseLong({ tokens }: SearchOptions, { maxPositions }: EngineInfo): void {
  if (tokens <= maxPositions) return;
  throw new ServingError(
    'PROMPT_TOO_LONG',
    `--tokens ${String(tokens)}: the model takes ${String(maxPositions)}`,
  );
}
