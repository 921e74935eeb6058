import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { medianCosts } from '../../../../services/cli/bench/chunk-cost.js';
import { fitCostLaw, lawCost } from '../../../../services/cli/bench/cost-law.js';
import { lawful, measured, steps } from './measured-chunks.js';

const near = (actual: number, expected: number): void => {
  assert.ok(Math.abs(actual / expected - 1) < 1e-9, `${actual}, not ${expected}`);
};

test('a machine that obeys the law is foretold exactly, near and far', () => {
  const law = fitCostLaw(medianCosts(steps(2_048, 8).map((range) => lawful(range))));
  near(law.secondsPerToken, 10e-6);
  near(law.secondsPerPair, 2e-9);
  assert.ok(law.residual !== null && law.residual < 1e-12);
  const far = { beginToken: 900_000, endToken: 916_384 };
  const { result } = lawful(far);
  near(lawCost(law, far).seconds, result.engineMicros / 1e6);
  near(lawCost(law, far).attentionSeconds, result.attentionMicros / 1e6);
  assert.equal(lawCost(law, far).isMeasured, false);
});

test('only the later half of the positions counts', () => {
  const slowStart = steps(2_048, 8).map((range) =>
    range.beginToken < 8_192 ? measured(range, { engineMicros: 9e9 }) : lawful(range),
  );
  const law = fitCostLaw(medianCosts(slowStart));
  near(law.secondsPerToken, 10e-6);
  assert.deepEqual(law.fittedTo, { beginToken: 8_192, endToken: 16_384 });
  assert.equal(law.chunks, 4);
});

test('the residual is the root mean square of what the law misses', () => {
  // Equal tokens and no attention: the law is their mean, 1.5 s, off by 50 and by 25 %.
  const costs = medianCosts(
    [
      { beginToken: 2_048, endToken: 4_096 },
      { beginToken: 4_096, endToken: 6_144 },
    ].map((range, at) => measured(range, { engineMicros: (at + 1) * 1e6 })),
  );
  const law = fitCostLaw(costs.map((cost) => ({ ...cost, beginToken: cost.endToken - 2_048 })));
  assert.equal(law.chunks, 1, 'the first begins before the half');
  assert.equal(law.residual, null, 'one chunk says nothing of its law');
  const both = fitCostLaw(
    costs.map((cost, at) => ({
      ...cost,
      ...{ beginToken: 10_000 + 2_048 * at, endToken: 12_048 + 2_048 * at },
    })),
  );
  assert.equal(both.chunks, 2);
  near(both.residual ?? NaN, Math.sqrt((0.5 ** 2 + 0.25 ** 2) / 2));
});

test('a prompt of one chunk has that chunk’s law', () => {
  const law = fitCostLaw(medianCosts([lawful({ beginToken: 0, endToken: 2_048 })]));
  near(law.secondsPerPair, 2e-9);
  assert.equal(law.chunks, 1);
});
