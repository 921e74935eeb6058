import type { SparseStats } from '../../../../native/ts/index.js';
import type { MeasuredChunk } from '../../../../services/cli/bench/interleaved-prefill.js';
import { attentionPairs, DIAGONAL_KEYS } from '../../../../services/domain/prefill-cost.js';
import type { TokenRange } from '../../../../services/domain/token-range.js';

/** What a chunk reports besides its place. */
export interface Figures {
  readonly policy?: string;
  readonly repeat?: number;
  readonly engineMicros: number;
  readonly attentionMicros?: number;
  readonly sparse?: Partial<SparseStats>;
}

export const NO_SPARSE_WORK: SparseStats = {
  attendedKeys: new Float64Array(5),
  causalKeys: new Float64Array(5),
  layerAttendedKeys: new Float64Array(2),
  layerCausalKeys: new Float64Array(2),
  estimateMicros: 0,
  indexMicros: 0,
  attentionMicros: 0,
  guardBlocks: 0,
  guardErrorSum: 0,
  guardErrorMax: 0,
};

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
      sparse: { ...NO_SPARSE_WORK, ...sparse },
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
