import type { SparseStats } from '../../../../native/ts/index.js';
import type { MeasuredChunk } from '../../../../services/cli/bench/interleaved-prefill.js';
import { attentionPairs, DIAGONAL_KEYS } from '../../../../services/domain/prefill-cost.js';
import type { TokenRange } from '../../../../services/domain/token-range.js';
import { NO_SPARSE_STATS } from '../../../support/sparse-fixture.js';

/** What a chunk reports besides its place. */
export interface Figures {
  readonly policy?: string;
  readonly repeat?: number;
  readonly engineMicros: number;
  readonly attentionMicros?: number;
  readonly sparse?: Partial<SparseStats>;
}

export function measured(range: TokenRange, figures: Figures): MeasuredChunk {
  const { policy = 'dense', repeat = 0, engineMicros, attentionMicros = 0, sparse } = figures;
  return {
    ...range,
    ...{ policy, repeat },
    result: {
      segment: { ...range, bytes: 0 },
      logprobs: new Float32Array(),
      ranks: new Uint32Array(),
      ...{ engineMicros, attentionMicros },
      sparse: { ...NO_SPARSE_STATS, ...sparse },
    },
  };
}

/** Chunks of `step` tokens. */
export function steps(step: number, count: number): TokenRange[] {
  return Array.from({ length: count }, (_, at) => ({
    beginToken: at * step,
    endToken: (at + 1) * step,
  }));
}

/** A dense chunk of a machine that obeys the cost law: ten microseconds a token, 2 ns a pair. */
export function lawful(range: TokenRange, figures: Omit<Figures, 'engineMicros'> = {}) {
  const tokens = range.endToken - range.beginToken;
  const attentionMicros = 0.002 * (attentionPairs(range) + DIAGONAL_KEYS * tokens);
  return measured(range, {
    ...{ attentionMicros, engineMicros: attentionMicros + 10 * tokens },
    ...figures,
  });
}
