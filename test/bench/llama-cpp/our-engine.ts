import { randomBytes } from 'node:crypto';
import * as native from '../../../native/ts/index.js';
import { planPrefillChunks } from '../../../services/domain/plan-prefill-chunks.js';
import type { TokenRange } from '../../../services/domain/token-range.js';
import { sparsePolicy, type Policy } from './policies.js';
import { timed, type NextToken, type PrefillRun } from './prefill-run.js';

/** Rows at a prompt's end that are dense under every policy. */
const DENSE_TAIL_TOKENS = 128;

export interface OurOptions {
  readonly modelDirectory: string;
  readonly threads: number;
  /** For keys and values; made when absent. */
  readonly storeDirectory: string;
}

/** This project's engine, without a cluster around it. */
export class OurEngine {
  private constructor(
    private readonly engine: native.EngineHandle,
    private readonly store: native.ValueStoreHandle,
  ) {}

  static async open({ modelDirectory, threads, storeDirectory }: OurOptions): Promise<OurEngine> {
    const engine = await native.openEngine({
      modelDirectory,
      device: 'cpu',
      dtype: 'bf16',
      threads,
      layerBegin: 0,
      layerEnd: null,
    });
    return new OurEngine(engine, native.openValueStore(storeDirectory));
  }

  /** Instruction set of the kernels. */
  get instructionSet(): string {
    return native.engineInfo(this.engine).instructionSet;
  }

  /** Chunk by chunk as a worker does it, the seal, and the first step of a decode. */
  async prefill(ids: Uint32Array, policy: Policy): Promise<PrefillRun> {
    const key: native.SessionKey = {
      sessionId: randomBytes(16).toString('hex'),
      epoch: 1,
      stage: 0,
      fingerprint: randomBytes(16).toString('hex'),
      origins: [],
    };
    const sparse = sparsePolicy(policy, native.engineInfo(this.engine));
    const session = native.openPrefillSession(this.engine, this.store, key, sparse);
    try {
      return await timed(async () => {
        const pairs = { attended: 0, causal: 0 };
        for (const chunk of planPrefillChunks(ids.length, 'cpu')) {
          const { sparse: stats } = await runChunk(session, ids, chunk, sparse !== null);
          if (sparse === null) continue;
          pairs.attended += sum(stats.attendedKeys);
          pairs.causal += sum(stats.causalKeys);
        }
        const next = await this.#nextToken(key, await native.sealPrefillSession(session));
        return { ...next, density: pairs.causal === 0 ? null : pairs.attended / pairs.causal };
      });
    } finally {
      await native.closePrefillSession(session);
      native.removeSessionFiles(this.store, key.sessionId);
    }
  }

  async #nextToken(key: native.SessionKey, handOff: Uint8Array): Promise<NextToken> {
    const session = await native.openDecodeSession(this.engine, this.store, key, handOff);
    try {
      const [result] = await native.decodeStep(this.engine, [
        {
          session,
          tokenIds: new Uint32Array(),
          logprobTargets: null,
          sample: true,
          sampling: { temperature: 0, topK: 0, topP: 1, seed: 0n },
          tokenIndex: 0,
          forcedTokenId: null,
        },
      ]);
      if (typeof result?.tokenId !== 'number') {
        throw new Error(`the engine sampled nothing: ${result?.error?.message ?? 'no result'}`);
      }
      return { nextToken: result.tokenId, logprob: result.logprob };
    } finally {
      await native.closeDecodeSession(session);
    }
  }

  close(): Promise<void> {
    return native.closeEngine(this.engine);
  }
}

function runChunk(
  session: native.PrefillSessionHandle,
  ids: Uint32Array,
  { beginToken, endToken }: TokenRange,
  isSparse: boolean,
): Promise<native.PrefillChunkResult> {
  const tail = ids.length - DENSE_TAIL_TOKENS;
  return native.prefillChunk(
    session,
    {
      tokenIds: ids.slice(beginToken, endToken),
      beginToken,
      nextTokenId: null,
      logprobPositions: new Float64Array(),
      denseFromToken: isSparse && endToken > tail ? Math.max(tail, beginToken) : null,
    },
    () => {
      // Nobody waits for a share of a chunk.
    },
  );
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
