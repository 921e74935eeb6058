import { randomBytes } from 'node:crypto';
import * as native from '../../../native/ts/index.js';
import {
  BENCH_CUT_RULE,
  benchPolicy,
  SERVED_THRESHOLDS,
} from '../../../services/cli/bench/bench-policy.js';
import { tileDensity } from '../../../services/cli/bench/key-density.js';
import { runChunk } from '../../../services/cli/bench/run-chunk.js';
import { planPrefillChunks } from '../../../services/domain/plan-prefill-chunks.js';
import type { PrefillPolicy } from '../../../services/domain/policy.js';
import {
  type LoadedPatterns,
  loadPatterns,
} from '../../../services/platform/patterns/load-patterns.js';
import { timed, type NextToken, type OurRun } from './prefill-run.js';

const DTYPE = 'bf16';

export interface OurOptions {
  readonly modelDirectory: string;
  readonly threads: number;
  /** Null: the model's own, if it has one. */
  readonly patternsFile: string | null;
  /** For keys and values; made when absent. */
  readonly storeDirectory: string;
}

/** This project's engine, without a cluster around it. */
export class OurEngine {
  private constructor(
    private readonly engine: native.EngineHandle,
    private readonly store: native.ValueStoreHandle,
    private readonly patterns: LoadedPatterns,
  ) {}

  static async open(options: OurOptions): Promise<OurEngine> {
    const { modelDirectory, threads, patternsFile, storeDirectory } = options;
    const patterns = await loadPatterns(modelDirectory, patternsFile);
    const engine = await native.openEngine({
      modelDirectory,
      device: 'cpu',
      dtype: DTYPE,
      threads,
      layerBegin: 0,
      layerEnd: null,
    });
    return new OurEngine(engine, native.openValueStore(storeDirectory), patterns);
  }

  /** Instruction set of the kernels. */
  get instructionSet(): string {
    return native.engineInfo(this.engine).instructionSet;
  }

  /** Chunk by chunk as a worker does it, the seal, and the first step of a decode. */
  async prefill(ids: Uint32Array, policy: PrefillPolicy): Promise<OurRun> {
    const key: native.SessionKey = {
      sessionId: randomBytes(16).toString('hex'),
      epoch: 1,
      stage: 0,
      fingerprint: randomBytes(16).toString('hex'),
      origins: [],
    };
    const info = native.engineInfo(this.engine);
    const sparse = benchPolicy(policy, DTYPE, SERVED_THRESHOLDS, info, this.patterns);
    const session = native.openPrefillSession(this.engine, this.store, key, sparse);
    try {
      return await timed(async () => {
        const chunks = [];
        for (const chunk of planPrefillChunks(ids.length, BENCH_CUT_RULE)) {
          chunks.push({ result: await runChunk(session, ids, chunk) });
        }
        const next = await this.#nextToken(key, await native.sealPrefillSession(session));
        return { ...next, density: tileDensity(chunks) };
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
