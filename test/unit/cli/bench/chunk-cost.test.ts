import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { medianCosts } from '../../../../services/cli/bench/chunk-cost.js';
import { spreadOf } from '../../../../services/cli/bench/spread.js';
import { measured } from './measured-chunks.js';

const FIRST = { beginToken: 0, endToken: 512 };
const SECOND = { beginToken: 512, endToken: 1_024 };

test('a chunk costs the median of its repeats, each part by itself, in order of positions', () => {
  const run = (repeat: number, engineMicros: number, estimateMicros: number) => [
    measured(SECOND, { repeat, engineMicros: 5e6, attentionMicros: 4e6 }),
    measured(FIRST, {
      ...{ repeat, engineMicros, attentionMicros: engineMicros / 2 },
      sparse: { estimateMicros, indexMicros: 1e5 },
    }),
  ];
  const costs = medianCosts([...run(0, 2e6, 3e5), ...run(1, 9e6, 1e5), ...run(2, 1e6, 2e5)]);
  assert.deepEqual(costs, [
    {
      ...FIRST,
      ...{ seconds: 2, attentionSeconds: 1, estimateSeconds: 0.2, indexSeconds: 0.1 },
      isMeasured: true,
    },
    {
      ...SECOND,
      ...{ seconds: 5, attentionSeconds: 4, estimateSeconds: 0, indexSeconds: 0 },
      isMeasured: true,
    },
  ]);
});

test('a spread has the ends, the quartiles and the middle of numbers in any order', () => {
  assert.deepEqual(spreadOf([5, 1, 4, 2, 3]), {
    ...{ count: 5, least: 1, lowerQuartile: 2, median: 3, upperQuartile: 4, greatest: 5 },
  });
  assert.deepEqual(spreadOf([10, 20]), {
    ...{ count: 2, least: 10, lowerQuartile: 12.5, median: 15, upperQuartile: 17.5, greatest: 20 },
  });
});
