import assert from '../../../support/assert.js';
import { describe, test } from 'node:test';
import { benchFigures } from '../../../../services/cli/bench/bench-lines.js';
import { shownChunks } from '../../../../services/cli/bench/bench-positions.js';
import { describeBench } from '../../../../services/cli/bench/describe-bench.js';
import type { MeasuredPolicy } from '../../../../services/cli/bench/interleaved-prefill.js';
import { planPrefillChunks } from '../../../../services/domain/plan-prefill-chunks.js';
import { lawful, measured } from './measured-chunks.js';

const SPARSE = {
  ...{ denseBelowTokens: 0, budgets: new Float64Array(), gamma: 1, tau: 0, minTiles: 1 },
  guardInterval: 0,
};
const PLAN = planPrefillChunks(8_192, 'cpu');
const THIRD = PLAN[2];
const DENSE_UNTIL = 4_096;

const minference = PLAN.map((range) =>
  measured(range, {
    ...{ policy: 'minference', engineMicros: 1e6, attentionMicros: 8e5 },
    sparse: {
      ...{ estimateMicros: 1e5, indexMicros: 2e4, guardBlocks: 2 },
      ...{ guardErrorSum: 0.02, guardErrorMax: range === THIRD ? 0.05 : 0.01 },
      attendedKeys: Float64Array.of(10, 0, 20, 0, 0),
      causalKeys: Float64Array.of(10, 0, 90, 0, 0),
      layerAttendedKeys: Float64Array.of(20, 10),
      layerCausalKeys: Float64Array.of(50, 50),
    },
  }),
);
const dense = PLAN.filter(({ beginToken }) => beginToken < DENSE_UNTIL).map((range) =>
  lawful(range),
);
const POLICIES: MeasuredPolicy[] = [
  { name: 'dense', sparse: null, untilToken: DENSE_UNTIL },
  { name: 'minference', sparse: SPARSE, untilToken: Infinity },
];

describe('The lines of a measurement', () => {
  const { lines, costs } = benchFigures(POLICIES, [...dense, ...minference], PLAN);
  const [denseLine, line] = lines;
  assert.ok(denseLine && line);
  const denseSeconds = PLAN.map((range) => lawful(range).result.engineMicros / 1e6);
  const total = denseSeconds.reduce((a, b) => a + b, 0);

  test('say what ran, and what follows from which chunks', () => {
    assert.equal(denseLine.policy, 'dense');
    assert.equal(denseLine.tokens, 8_192);
    assert.ok(Math.abs(denseLine.seconds - total) < 1e-9);
    const measuredSeconds = (denseSeconds[0] ?? 0) + (denseSeconds[1] ?? 0);
    assert.ok(Math.abs(denseLine.extrapolated_seconds - (total - measuredSeconds)) < 1e-9);
    assert.deepEqual(denseLine.extrapolated_from, {
      ...{ begin_token: 2_048, end_token: 4_096, chunks: 1, residual: null },
    });
    assert.deepEqual([denseLine.tile_density, denseLine.layer_density], [1, null]);
    assert.equal(denseLine.speedup, null);
    assert.deepEqual(
      costs[0]?.costs.map(({ isMeasured }) => isMeasured),
      [...[true, true, false, false, false]],
    );
  });

  test('hold the other policy against dense of the same run', () => {
    assert.equal(line.seconds, 5);
    assert.deepEqual([line.extrapolated_seconds, line.extrapolated_from], [0, null]);
    assert.ok(Math.abs((line.speedup ?? NaN) - total / 5) < 1e-9);
    assert.ok(
      Math.abs((line.measured_speedup ?? NaN) - (total - denseLine.extrapolated_seconds) / 2) <
        1e-9,
    );
    assert.deepEqual(line.repeat_speedups, [line.speedup]);
    assert.equal(line.chunk_speedup?.chunks, 2);
  });

  test('have density, shares and the guard over all chunks', () => {
    assert.equal(line.tile_density, 0.3);
    assert.deepEqual(line.layer_density, [0.4, 0.2]);
    assert.ok(Math.abs(line.attention_seconds - 4) < 1e-9);
    assert.ok(Math.abs(line.estimate_seconds - 0.5) < 1e-9);
    assert.ok(Math.abs(line.index_seconds - 0.1) < 1e-9);
    assert.ok(Math.abs((line.guard_error_mean ?? NaN) - 0.01) < 1e-9);
    assert.equal(line.guard_error_max, 0.05);
  });

  test('show single chunks, and mark what rests on the cost law', () => {
    const ends = line.positions.map((position) => position.end_token);
    assert.deepEqual(ends, [2_048, 4_096, 7_680]);
    const marks = line.positions.map((position) => position.speedup_is_extrapolated);
    assert.deepEqual(marks, [false, false, true]);
    const [first] = line.positions;
    assert.equal(first?.attention_share, 0.8);
    assert.equal(first.estimate_share, 1 / 8);
    assert.ok(Math.abs(first.index_share - 1 / 40) < 1e-9);
    assert.equal(first.tile_density, 0.3);
    assert.ok(Math.abs((first.speedup ?? NaN) - (denseSeconds[0] ?? 0)) < 1e-9);
    assert.deepEqual(
      denseLine.positions.map(({ end_token }) => end_token),
      [2_048, 4_096],
      'of dense only what ran',
    );
  });

  test('without dense prefill there is nothing to hold against', () => {
    const [alone] = benchFigures(POLICIES.slice(1), minference, PLAN).lines;
    assert.deepEqual(
      [alone?.speedup, alone?.chunk_speedup, alone?.positions[0]?.speedup],
      [null, null, null],
    );
  });

  test('are told to a person with what they rest on', () => {
    const text = describeBench(lines);
    assert.match(text, /^policy +tokens +time +times dense +attention, of time +estimate, of att/);
    assert.match(text, /^dense +8,192 +~0\.\d+ s +\d/m);
    assert.match(
      text,
      /^minference +8,192 +5\.0 s +~0\.\d\d +80\.0 % +12\.5 % +2\.5 % +30\.0 % +1\.0 %, 5\.0 %$/m,
    );
    assert.match(text, /^6,144 to 7,680 +minference +1\.0 s +~0\.\d\d +80\.0 %/m);
    assert.match(text, /^0 to 2,048 +minference +1\.0 s +0\.\d\d /m);
    assert.match(text, /cost law of 1 chunk from 2,048 to 4,096 tokens\. What rests on it has a ~/);
    assert.match(text, /minference, times dense over 2 chunks that dense ran: 0\.\d\d together/);
  });
});

test('the shown chunks are doublings up to the last one before the tail', () => {
  const ends = (tokens: number): number[] =>
    shownChunks(planPrefillChunks(tokens, 'cpu')).map(({ endToken }) => endToken);
  assert.deepEqual(ends(131_072), [2_048, 4_096, 8_192, 16_384, 32_768, 65_536, 130_560]);
  assert.deepEqual(ends(1_024), [512]);
  assert.deepEqual(ends(1_000_000).slice(-2), [524_288, 999_424]);
});
