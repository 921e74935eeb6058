import type { PatternTrialResult } from '../../../native/ts/index.js';
import { TILE_TOKENS } from '../../domain/head-pattern.js';

/** What trials added up to; lists are [layers][query heads][candidates]. */
export interface TrialSums {
  /** Rows that were compared with dense attention. */
  readonly rows: number;
  /** Keys that dense attention sees in their query blocks, of one head. */
  readonly causalKeys: number;
  /** Relative errors of rows, summed. */
  readonly errors: readonly number[];
  /** Keys that query blocks attended to. */
  readonly attendedKeys: readonly number[];
}

/** @param places layers x query heads x candidates */
export function noTrials(places: number): TrialSums {
  const zeros = new Array<number>(places).fill(0);
  return { rows: 0, causalKeys: 0, errors: zeros, attendedKeys: zeros };
}

export function addSums(a: TrialSums, b: TrialSums): TrialSums {
  return {
    rows: a.rows + b.rows,
    causalKeys: a.causalKeys + b.causalKeys,
    errors: a.errors.map((error, at) => error + (b.errors[at] ?? 0)),
    attendedKeys: a.attendedKeys.map((keys, at) => keys + (b.attendedKeys[at] ?? 0)),
  };
}

/** A chunk's trial as sums. */
export function sumsOf({ segment, rows, errors, attendedKeys }: PatternTrialResult): TrialSums {
  let causalKeys = 0;
  const end = segment.beginToken + rows;
  for (let at = segment.beginToken; at < end; at += TILE_TOKENS) {
    causalKeys += Math.min(at + TILE_TOKENS, end);
  }
  return { rows, causalKeys, errors: [...errors], attendedKeys: [...attendedKeys] };
}
