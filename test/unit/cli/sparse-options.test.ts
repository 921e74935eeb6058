import assert from '../../support/assert.js';
import { describe, test } from 'node:test';
import { serviceEnvironment } from '../../../services/cli/cluster/service-environment.js';
import { describeReport } from '../../../services/cli/output/show-answer.js';
import { toReport } from '../../../services/cli/rpc/answer-events.js';
import { toHeader } from '../../../services/cli/rpc/to-header.js';
import type { TurnReport } from '../../../services/domain/session-event.js';
import { toWireFinished } from '../../../services/router/rpc/to-wire.js';
import { byPattern, policyWith, sparsePolicy, sparseWork } from '../../support/sparse-fixture.js';
import type { Finished__Output } from '../../../proto/gen/longshadow/router/v1/Finished.js';

describe('Options of sparse prefill', () => {
  test('are not sent where none is given: a dense session would be refused', () => {
    assert.equal('sparsePrefill' in toHeader({ model: 'm', prefillPolicy: 'minference' }), false);
  });

  test('are sent as they are, 0 included', () => {
    const { sparsePrefill } = toHeader({ model: 'm', tilesPerBlock: 32, denseBelowTokens: 0 });
    assert.deepEqual(sparsePrefill, { tilesPerBlock: 32, denseBelowTokens: 0 });
  });
});

describe('A pattern file of a local cluster', () => {
  const place = {
    ...{ name: 'n', inherited: {}, listen: '127.0.0.1:0', redisUrl: 'redis://r' },
    ...{ modelDirectory: '/models/needle', storeDirectory: '/s', patternsFile: '/p.json' },
  };
  test('is the same for routers and workers', () => {
    assert.equal(serviceEnvironment('router', place)['ROUTER_PATTERNS_FILES'], 'needle=/p.json');
    assert.equal(serviceEnvironment('worker', place)['WORKER_PATTERNS_FILE'], '/p.json');
    assert.equal('DECODE_PATTERNS_FILE' in serviceEnvironment('decode', place), false);
  });

  test('is left to the model’s folder where none is named', () => {
    const plain = { ...place, patternsFile: null };
    assert.equal('ROUTER_PATTERNS_FILES' in serviceEnvironment('router', plain), false);
    assert.equal('WORKER_PATTERNS_FILE' in serviceEnvironment('worker', plain), false);
  });
});

describe('The report of a sparse turn', () => {
  const report: TurnReport = {
    policy: policyWith(sparsePolicy({ denseBelowTokens: 8_192, gamma: 0.95 })),
    ...{ promptTokens: 40_000, cachedTokens: 10_000, completionTokens: 2 },
    ...{ timeToFirstTokenMs: 9, prefillMs: 8, decodeMs: 1, segmentBytes: 1, privateBytes: 1 },
    ...{ workerIds: ['w'], decodeId: 'd', promptReran: false },
    sparseWork: sparseWork({
      ...{ sparseTokens: 28_000, denseTokens: 2_000 },
      attendedKeys: byPattern({ dense: 10, 'a-shape': 5, 'vertical-slash': 20, 'key-bounds': 5 }),
      causalKeys: byPattern({ dense: 10, 'a-shape': 10, 'vertical-slash': 80, 'key-bounds': 20 }),
      ...{ layerAttendedKeys: [30, 10, 0], layerCausalKeys: [60, 60, 0] },
      ...{ estimateMicros: 10.4, indexMicros: 10, attentionMicros: 80 },
      ...{ guardBlocks: 4, guardErrorSum: 0.08, guardErrorMax: 0.05 },
    }),
  };
  const finished = (work: TurnReport['sparseWork']) =>
    toWireFinished({
      ...{ type: 'finished', finishReason: 'stop', text: '', keptUntilUnixMs: null },
      report: { ...report, sparseWork: work },
    });

  test('says density in all, by pattern and by layer, the share of choosing keys, errors, and what was reused', () => {
    const wire = finished(report.sparseWork);
    assert.deepEqual(wire.report?.sparsePrefill, {
      thresholds: {
        ...{ tilesPerBlock: 64, denseBelowTokens: 8_192 },
        ...{ patternsSha256: 'e'.repeat(64), gamma: 0.95, tau: 0.1, minTiles: 8 },
        tilesOverrideFile: false,
      },
      ...{ sparseTokens: 28_000, denseTokens: 2_000, reusedTokens: 10_000 },
      densities: [
        { pattern: 'HEAD_PATTERN_DENSE', density: 1, attendedKeys: 10, causalKeys: 10 },
        { pattern: 'HEAD_PATTERN_A_SHAPE', density: 0.5, attendedKeys: 5, causalKeys: 10 },
        {
          pattern: 'HEAD_PATTERN_VERTICAL_SLASH',
          density: 0.25,
          attendedKeys: 20,
          causalKeys: 80,
        },
        { pattern: 'HEAD_PATTERN_KEY_BOUNDS', density: 0.25, attendedKeys: 5, causalKeys: 20 },
      ],
      density: 40 / 120,
      ...{ layerAttendedKeys: [30, 10, 0], layerCausalKeys: [60, 60, 0] },
      selectionShare: 20.4 / 100.4,
      ...{ estimateMicros: 10, indexMicros: 10, attentionMicros: 80 },
      ...{ guardBlocks: 4, guardErrorMean: 0.02, guardErrorMax: 0.05 },
    });
    const told = toReport(wire as Finished__Output);
    assert.deepEqual(
      told.sparsePrefill?.densities.map(({ pattern }) => pattern),
      ['dense', 'a-shape', 'vertical-slash', 'key-bounds'],
    );
    assert.deepEqual(told.sparsePrefill.layers, [
      { attendedKeys: 30, causalKeys: 60, density: 0.5 },
      { attendedKeys: 10, causalKeys: 60, density: 10 / 60 },
      { attendedKeys: 0, causalKeys: 0, density: 1 },
    ]);
    assert.match(
      describeReport('s', told),
      /28,000 tokens sparse, 33\.3 % of dense attention \(a-shape 50\.0 %, vertical-slash 25\.0 %, key-bounds 25\.0 %\), attention error 2\.0 %/,
    );
  });

  test('has no such part where no chunk ran', () => {
    const wire = finished(null);
    assert.equal(wire.report !== null && 'sparsePrefill' in (wire.report ?? {}), false);
    assert.equal(toReport(wire as Finished__Output).sparsePrefill, null);
  });
});
