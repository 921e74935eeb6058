import assert from '../support/assert.js';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as native from '../../native/ts/index.js';

export const MODEL_DIRECTORY = fileURLToPath(new URL('../../models/needle', import.meta.url));

export interface NeedleSample {
  ids: number[];
  answer_positions: number[];
}

export function needleSamples(): NeedleSample[] {
  return JSON.parse(readFileSync(join(MODEL_DIRECTORY, 'samples.json'), 'utf8')) as NeedleSample[];
}

export const ENGINE_OPTIONS: native.EngineOptions = {
  modelDirectory: MODEL_DIRECTORY,
  device: 'cpu',
  dtype: 'bf16',
  threads: 0,
  layerBegin: 0,
  layerEnd: null,
};

/** A value store in a temporary folder. */
export class TemporaryStore {
  readonly root = mkdtempSync(join(tmpdir(), 'longshadow-binding-'));
  readonly handle = native.openValueStore(join(this.root, 'store'));

  status(): native.ValueStoreStatus {
    return native.valueStoreStatus(this.handle);
  }

  /** Nothing of any session is left in this process: no mapping, no private page. */
  assertNothingHeld(): void {
    const { mappings, mappedBytes, privateBytes } = this.status();
    assert.deepEqual(
      { mappings, mappedBytes, privateBytes },
      { mappings: 0, mappedBytes: 0, privateBytes: 0 },
    );
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}

export function newKey(): native.SessionKey {
  return {
    sessionId: randomBytes(16).toString('hex'),
    epoch: 1,
    stage: 0,
    fingerprint: randomBytes(16).toString('hex'),
    origins: [],
  };
}

export function chunkRequest(
  ids: readonly number[],
  beginToken: number,
  endToken: number,
  changes: Partial<native.PrefillChunkRequest> = {},
): native.PrefillChunkRequest {
  return {
    tokenIds: Uint32Array.from(ids.slice(beginToken, endToken)),
    beginToken,
    nextTokenId: null,
    logprobPositions: new Float64Array(),
    denseFromToken: null,
    ...changes,
  };
}

export function ignoreProgress(): void {
  // For chunks whose progress does not matter.
}

/** Prefills ids[0, end) as chunks that end at the given positions, and seals. */
export async function prefillAndSeal(
  session: native.PrefillSessionHandle,
  ids: readonly number[],
  ends: readonly number[],
): Promise<Uint8Array> {
  let begin = 0;
  for (const end of ends) {
    await native.prefillChunk(session, chunkRequest(ids, begin, end), ignoreProgress);
    begin = end;
  }
  return native.sealPrefillSession(session);
}

export function greedyItem(
  session: native.DecodeSessionHandle,
  tokenIds: readonly number[],
  tokenIndex: number,
): native.DecodeItem {
  return {
    session,
    tokenIds: Uint32Array.from(tokenIds),
    logprobTargets: null,
    sample: true,
    sampling: { temperature: 0, topK: 0, topP: 1, seed: 0n },
    tokenIndex,
    forcedTokenId: null,
  };
}

/** Decodes `count` tokens, one native call each. */
export async function decodeGreedily(
  engine: native.EngineHandle,
  session: native.DecodeSessionHandle,
  count: number,
): Promise<number[]> {
  const tokens: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const [result] = await native.decodeStep(engine, [
      greedyItem(session, tokens.slice(-1), index),
    ]);
    const tokenId = result?.tokenId ?? null;
    assert.ok(tokenId !== null, JSON.stringify(result?.error));
    tokens.push(tokenId);
  }
  return tokens;
}

/** Matches a NativeError of this code. */
export function withCode(code: native.NativeErrorCode): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof native.NativeError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}
