import { Counter, Histogram, type Registry } from 'prom-client';
import type { SparseStats } from '../../native/ts/index.js';
import { HEAD_PATTERNS } from '../domain/head-pattern.js';

/** Relative errors: what rounding alone makes, up to an output that has nothing in common. */
const ERROR_RATIOS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

/** Every series is there from the start. @returns takes in what a chunk did */
export function sparseMetrics(registry: Registry): (stats: SparseStats) => void {
  const registers = [registry];
  const keys = (name: string, help: string): Counter<'pattern'> =>
    new Counter({ name, help, labelNames: ['pattern'], registers });
  const seconds = (part: string, help: string): Counter =>
    new Counter({ name: `longshadow_sparse_${part}_seconds_total`, help, registers });
  const attended = keys(
    'longshadow_sparse_attended_keys_total',
    'Keys that blocks of 64 queries of sparse sessions attended to',
  );
  const causal = keys(
    'longshadow_sparse_causal_keys_total',
    'Keys that dense attention would have seen there',
  );
  const estimate = seconds('estimate', 'Time of scores and selection of keys in sparse prefill');
  const index = seconds('index', "Time of sparse prefill's index");
  const attention = seconds('attention', 'Time of attention over the selected keys');
  const guardError = new Histogram({
    name: 'longshadow_sparse_guard_error',
    help: 'Relative L2 error of sparse against dense attention, mean of the blocks guarded in a chunk',
    buckets: ERROR_RATIOS,
    registers,
  });
  const count = (stats: Pick<SparseStats, 'attendedKeys' | 'causalKeys'> | null): void => {
    for (const [place, pattern] of HEAD_PATTERNS.entries()) {
      attended.inc({ pattern }, stats?.attendedKeys[place] ?? 0);
      causal.inc({ pattern }, stats?.causalKeys[place] ?? 0);
    }
  };
  count(null);
  return (stats) => {
    count(stats);
    estimate.inc(stats.estimateMicros / 1e6);
    index.inc(stats.indexMicros / 1e6);
    attention.inc(stats.attentionMicros / 1e6);
    if (stats.guardBlocks > 0) guardError.observe(stats.guardErrorSum / stats.guardBlocks);
  };
}
