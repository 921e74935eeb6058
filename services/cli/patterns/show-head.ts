import { basename, resolve } from 'node:path';
import {
  closeEngine,
  engineInfo,
  openEngine,
  type ComputeDtype,
  type Device,
  type EngineHandle,
  type EngineInfo,
} from '../../../native/ts/index.js';
import { type HeadPattern, patternOf, TILE_TOKENS } from '../../domain/head-pattern.js';
import { ServingError } from '../../domain/serving-error.js';
import { loadPatterns } from '../../platform/patterns/load-patterns.js';
import { checkPatternShape } from '../../platform/patterns/parse-patterns.js';
import { withOwnStore } from '../engine/own-store.js';
import { formatCount, formatShare } from '../output/format.js';
import { writeWhole } from '../output/write-whole.js';
import { AttendedTiles } from './attended-tiles.js';
import { candidateBudgets, patternName } from './candidates.js';
import { drawAttention, MOST_ROWS } from './draw-attention.js';
import { shownPromptIds } from './shown-prompt.js';
import { addSums, noTrials, sumsOf, type TrialSums } from './trial-sums.js';
import { tryPrompt } from './try-prompt.js';

/** Which head is drawn, on what. */
export interface ShowCall {
  readonly modelDirectory: string;
  /** Null: the model's own, if it has one. */
  readonly patternsFile: string | null;
  readonly layer: number;
  readonly head: number;
  /** Null: all of the file, or 16,384 of the book. */
  readonly tokens: number | null;
  readonly promptFile: string | null;
  /** Where the pattern file does not say. */
  readonly tiles: number;
  readonly outFile: string;
  readonly device: Device;
  readonly dtype: ComputeDtype;
  /** Of the engine; 0: one a core. */
  readonly threads: number;
}

/** What a drawn head does. */
export interface ShownHead {
  readonly pattern: HeadPattern;
  readonly tokens: number;
  /** Mean relative error of a row of the head's output. */
  readonly error: number;
  /** Share of dense attention's keys, of the rows that choose. */
  readonly density: number;
}

/**
 * Runs a prompt and draws which key tiles one head's pattern attends to, as SVG.
 * @throws ServingError for a model, a head, a pattern file or a prompt that does not fit
 */
export async function showHead(call: ShowCall, stop: AbortSignal): Promise<ShownHead> {
  const { modelDirectory, device, dtype, threads, layer, head } = call;
  const loaded = await loadPatterns(modelDirectory, call.patternsFile);
  const engine = await openEngine({
    ...{ modelDirectory, device, dtype, threads, layerBegin: 0, layerEnd: null },
  });
  try {
    const info = engineInfo(engine);
    if (loaded.path !== null) checkPatternShape(loaded.patterns, info, loaded.path);
    refuseHead('--layer', layer, info.layers);
    refuseHead('--head', head, info.queryHeads);
    const found = patternOf(loaded.patterns, layer, head);
    const pattern = { ...found, tiles: found.tiles ?? call.tiles };
    const tokenIds = await shownPromptIds(modelDirectory, call.promptFile, call.tokens);
    refuseLong(tokenIds.length, info);
    const { tiles, sums } = await attend(engine, info, call, tokenIds, pattern, stop);
    const place = layer * info.queryHeads + head;
    const shown = {
      ...{ pattern, tokens: tokenIds.length },
      error: (sums.errors[place] ?? 0) / sums.rows,
      density: (sums.attendedKeys[place] ?? 0) / sums.causalKeys,
    };
    await writeWhole(call.outFile, draw(call, shown, tiles));
    return shown;
  } finally {
    await closeEngine(engine);
  }
}

async function attend(
  engine: EngineHandle,
  { layers, queryHeads }: EngineInfo,
  { layer, head }: ShowCall,
  tokenIds: Uint32Array,
  pattern: HeadPattern & { readonly tiles: number },
  stop: AbortSignal,
): Promise<{ tiles: AttendedTiles; sums: TrialSums }> {
  const tiles = new AttendedTiles(Math.ceil(tokenIds.length / TILE_TOKENS));
  let sums = noTrials(layers * queryHeads);
  const trial = {
    ...{ tokenIds, stop, denseBelowTokens: 0 },
    budgets: candidateBudgets([pattern], pattern.tiles),
    shown: { layer, head, candidate: 0 },
  };
  await withOwnStore(async (store) =>
    tryPrompt(engine, store, trial, ({ beginToken }, result) => {
      if (result === null || result.shown === null) return;
      tiles.add(result.shown);
      // The prompt's last rows attend to all keys.
      const chosenBlocks = result.shown.rangeOffsets.length - 1;
      if (result.segment.endToken - beginToken > result.rows) {
        tiles.addDense(beginToken / TILE_TOKENS + chosenBlocks);
      }
      sums = addSums(sums, sumsOf(result));
    }),
  );
  return { tiles, sums };
}

function draw(call: ShowCall, shown: ShownHead, tiles: AttendedTiles): string {
  const { pattern, tokens, error, density } = shown;
  const rowBlocks = Math.ceil(tiles.blocks / MOST_ROWS);
  const model = basename(resolve(call.modelDirectory));
  const row =
    rowBlocks === 1
      ? 'tiles of 64 x 64'
      : `each cell ${String(rowBlocks)} x ${String(rowBlocks)} tiles`;
  return drawAttention({
    title: `${model}, layer ${String(call.layer)}, head ${String(call.head)}: ${describePattern(pattern)}`,
    subtitle: `${formatCount(tokens)} tokens, ${row}; ${formatShare(density)} of the keys, relative error ${formatShare(error)}; the last 128 rows are dense`,
    shares: tiles.shares(MOST_ROWS),
    promptTokens: tokens,
    rowTokens: rowBlocks * TILE_TOKENS,
  });
}

/** `vertical-slash 1000, 6096 at 64 tiles` */
export function describePattern(pattern: HeadPattern): string {
  return `${patternName(pattern)} at ${String(pattern.tiles)} tiles`;
}

function refuseHead(flag: string, value: number, count: number): void {
  if (value < count) return;
  throw new ServingError(
    'BAD_REQUEST',
    `${flag} ${String(value)}: the model has ${String(count)}, numbered from 0 to ${String(count - 1)}`,
  );
}

function refuseLong(tokens: number, { maxPositions }: EngineInfo): void {
  if (tokens <= maxPositions) return;
  throw new ServingError(
    'PROMPT_TOO_LONG',
    `the prompt has ${String(tokens)} tokens, and the model takes ${String(maxPositions)}: give --tokens`,
  );
}
