import {
  appendLogits,
  closeDecodeSession,
  closeEngine,
  decodeStep,
  engineInfo,
  openEngine,
  openScratchSession,
  type ComputeDtype,
  type DecodeSessionHandle,
  type Device,
  type EngineHandle,
  type EngineInfo,
} from '../../../native/ts/index.js';
import { ServingError } from '../../domain/serving-error.js';

/** How a model is opened for work straight on the engine. */
export interface EngineChoice {
  readonly modelDirectory: string;
  readonly device: Device;
  readonly dtype: ComputeDtype;
  /** Tokens of a prefill chunk; 0: the whole prompt at once. */
  readonly chunkTokens: number;
}

/**
 * Logits of some rows of a prompt.
 *
 * @param rows positions whose next-token logits are wanted, in any order
 * @returns f32 [rows.length, vocabSize], in order of `rows`
 * @throws ServingError TOKEN_ID_OUT_OF_RANGE, BAD_REQUEST for a row outside the prompt
 */
export async function promptLogits(
  choice: EngineChoice,
  ids: readonly number[],
  rows: readonly number[],
): Promise<{ values: Float32Array; vocabSize: number }> {
  for (const row of rows) {
    if (Number.isInteger(row) && row >= 0 && row < ids.length) continue;
    throw new ServingError(
      'BAD_REQUEST',
      `row ${String(row)} is not in the prompt of ${String(ids.length)} tokens`,
    );
  }
  return withScratchSession(choice, ids, async (session, info) => {
    const values = new Float32Array(rows.length * info.vocabSize);
    for (const { begin, tokenIds } of chunks(ids, choice.chunkTokens)) {
      const wanted = rows
        .map((row, place) => ({ place, row: row - begin }))
        .filter(({ row }) => row >= 0 && row < tokenIds.length)
        .sort((left, right) => left.row - right.row);
      const distinct = [...new Set(wanted.map(({ row }) => row))];
      const logits = await appendLogits(session, tokenIds, Float64Array.from(distinct));
      for (const { place, row } of wanted) {
        const from = distinct.indexOf(row) * info.vocabSize;
        values.set(logits.subarray(from, from + info.vocabSize), place * info.vocabSize);
      }
    }
    return { values, vocabSize: info.vocabSize };
  });
}

/**
 * Continues a prompt greedily.
 *
 * @returns `count` ids, fewer when stopAtEos met an end-of-sequence id (which is then the last)
 */
export async function greedyTokens(
  choice: EngineChoice,
  ids: readonly number[],
  count: number,
  stopAtEos: boolean,
): Promise<number[]> {
  return withScratchSession(choice, ids, async (session, info, engine) => {
    const before = ids.slice(0, -1);
    for (const { tokenIds } of chunks(before, choice.chunkTokens)) {
      await appendLogits(session, tokenIds, new Float64Array(0));
    }
    const generated: number[] = [];
    let last = ids.at(-1) ?? 0;
    while (generated.length < count) {
      last = await greedyStep(engine, session, last, generated.length);
      generated.push(last);
      if (stopAtEos && info.eosTokenIds.includes(last)) break;
    }
    return generated;
  });
}

async function greedyStep(
  engine: EngineHandle,
  session: DecodeSessionHandle,
  tokenId: number,
  tokenIndex: number,
): Promise<number> {
  const [result] = await decodeStep(engine, [
    {
      session,
      tokenIds: Uint32Array.of(tokenId),
      logprobTargets: null,
      sample: true,
      sampling: { temperature: 0, topK: 0, topP: 1, seed: 0n },
      tokenIndex,
      forcedTokenId: null,
    },
  ]);
  if (result?.error) throw new Error(`${result.error.code}: ${result.error.message}`);
  if (result?.tokenId === undefined || result.tokenId === null) {
    throw new Error('INTERNAL: the decode step gave no token');
  }
  return result.tokenId;
}

async function withScratchSession<Result>(
  choice: EngineChoice,
  ids: readonly number[],
  run: (session: DecodeSessionHandle, info: EngineInfo, engine: EngineHandle) => Promise<Result>,
): Promise<Result> {
  const engine = await openEngine({
    modelDirectory: choice.modelDirectory,
    device: choice.device,
    dtype: choice.dtype,
    threads: 0,
    layerBegin: 0,
    layerEnd: null,
  });
  try {
    const info = engineInfo(engine);
    const outside = ids.findIndex((id) => id >= info.vocabSize);
    if (outside >= 0) {
      throw new ServingError(
        'TOKEN_ID_OUT_OF_RANGE',
        `ids[${String(outside)}] is ${String(ids[outside])}; the model has ids 0 to ${String(info.vocabSize - 1)}`,
      );
    }
    const session = openScratchSession(engine);
    try {
      return await run(session, info, engine);
    } finally {
      await closeDecodeSession(session);
    }
  } finally {
    await closeEngine(engine);
  }
}

function* chunks(
  ids: readonly number[],
  chunkTokens: number,
): Generator<{ begin: number; tokenIds: Uint32Array }> {
  const step = chunkTokens === 0 ? Math.max(ids.length, 1) : chunkTokens;
  for (let begin = 0; begin < ids.length; begin += step) {
    yield { begin, tokenIds: Uint32Array.from(ids.slice(begin, begin + step)) };
  }
}
