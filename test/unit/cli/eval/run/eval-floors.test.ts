import assert from '../../../../support/assert.js';
import { describe, mock, test } from 'node:test';

interface Floor {
  readonly answers: number;
  readonly leastScore?: number;
  readonly mostScore?: number;
  readonly mostNatsPerToken?: number;
}

interface Row {
  readonly task: string;
  readonly lengthTokens: number;
  readonly policy: string;
  readonly score: { readonly mean: number; readonly count: number };
  readonly surprise: { readonly natsPerToken: { readonly mean: number } } | null;
}

const { judge } = (await import(
  new URL('../../../../../scripts/lib/eval-smoke.mjs', import.meta.url).href
)) as { judge: (rows: Row[], floors?: Record<string, Floor>) => Record<string, number> };
const { FLOORS } = (await import(
  new URL('../../../../../scripts/lib/eval-floors.mjs', import.meta.url).href
)) as { FLOORS: Record<string, Floor> };

function row(mean: number, nats?: number, count = 10, policy = 'dense'): Row {
  const surprise = nats === undefined ? null : { natsPerToken: { mean: nats } };
  return { task: 'vt', lengthTokens: 1_024, policy, score: { mean, count }, surprise };
}

describe('The floors of eval:smoke', () => {
  const quietly = (rows: Row[], floors: Record<string, Floor>): unknown => {
    const log = mock.method(console, 'log', () => undefined);
    try {
      const { passed, failed } = judge(rows, floors);
      return [passed, failed];
    } finally {
      log.mock.restore();
    }
  };

  test('hold at the floor and fail below it', () => {
    const floors = { 'vt 1024': { answers: 10, leastScore: 0.8 } };
    assert.deepEqual(quietly([row(0.8)], floors), [1, 0]);
    assert.deepEqual(quietly([row(0.79)], floors), [0, 1]);
  });

  test('fail where perplexity rises, or was not measured', () => {
    const floors = { 'vt 1024': { answers: 10, mostNatsPerToken: 5 } };
    assert.deepEqual(quietly([row(0, 5)], floors), [1, 0]);
    assert.deepEqual(quietly([row(0, 5.1)], floors), [0, 1]);
    assert.deepEqual(quietly([row(1)], floors), [0, 1]);
  });

  test('fail where fewer answers came than were asked for, however good', () => {
    const floors = { 'vt 1024': { answers: 10, leastScore: 0.8 } };
    assert.deepEqual(quietly([row(1, undefined, 9)], floors), [0, 1]);
    const nats = { 'vt 1024': { answers: 10, mostNatsPerToken: 5 } };
    assert.deepEqual(quietly([row(0, 1, 9)], nats), [0, 1]);
    assert.deepEqual(quietly([row(0, 1, 10)], nats), [1, 0]);
  });

  test('fail for a cell without a floor and a floor without a cell', () => {
    assert.deepEqual(quietly([row(1)], {}), [0, 1]);
    assert.deepEqual(quietly([], { 'vt 1024': { answers: 10, leastScore: 0.1 } }), [0, 1]);
  });

  test('are those of the policy, and ceilings fail above', () => {
    const floors = {
      'vt 1024': { answers: 10, leastScore: 0.8 },
      'vt 1024 a-shape@8': { answers: 10, mostScore: 0.5 },
    };
    assert.deepEqual(quietly([row(0.8), row(0.5, undefined, 10, 'a-shape@8')], floors), [2, 0]);
    assert.deepEqual(quietly([row(0.8), row(0.6, undefined, 10, 'a-shape@8')], floors), [1, 1]);
  });

  test('can all be missed', () => {
    for (const [cell, floor] of Object.entries(FLOORS)) {
      const { answers, leastScore, mostScore, mostNatsPerToken } = floor;
      assert.ok(answers > 0, cell);
      const isMissable = (leastScore ?? 0) > 0 || (mostNatsPerToken ?? 0) > 0;
      assert.ok(isMissable || (mostScore ?? 1) < 1, cell);
    }
  });
});
