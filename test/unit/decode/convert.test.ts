import assert from '../../support/assert.js';
import { test } from 'node:test';
import type { AppendTurnRequest__Output } from '../../../proto/gen/longshadow/decode/v1/AppendTurnRequest.js';
import type { StartSessionRequest__Output } from '../../../proto/gen/longshadow/decode/v1/StartSessionRequest.js';
import { ServingError } from '../../../services/domain/serving-error.js';
import { toAppendTurn, toStartSession } from '../../../services/decode/rpc/convert.js';
import { byPattern } from '../../support/sparse-fixture.js';

const generation: StartSessionRequest__Output['generation'] = {
  temperature: 0,
  topK: 0,
  topP: 1,
  seed: '18446744073709551615',
  maxNewTokens: 8,
  stop: [],
  ignoreEos: false,
  forcedTokens: [],
  promptLogprobs: [],
};
const context: StartSessionRequest__Output['context'] = {
  admittedUnixMs: '1000',
  prefilledUnixMs: '2000',
  promptTokens: '600',
  cachedTokens: '0',
  workerIds: ['worker-1'],
  segmentBytes: '1',
  promptReran: false,
  keepSessionMs: '0',
  prefillPolicy: 'dense',
  cachePolicy: 'full',
  dtype: 'bf16',
  cutRule: 'cpu',
  deadlineUnixMs: '0',
  firstTokenUnixMs: '0',
  sparse: null,
  sparseWork: null,
};
const fence = { sessionId: 'a'.repeat(32), epoch: 1, attempt: 2 };

function start(more: Partial<StartSessionRequest__Output> = {}): StartSessionRequest__Output {
  return {
    ...fence,
    fingerprint: 'f'.repeat(32),
    workerAddress: 'worker:1',
    generation,
    context,
    turn: 3,
    historyTokenIds: [7, 8, 9],
    answeredTokens: 1,
    turnBeginToken: '601',
    answers: [{ beginToken: '600', endToken: '601' }],
    ...more,
  };
}

test('a start says where its history begins and ends', () => {
  const request = toStartSession(start());
  assert.deepEqual([request.attempt, request.turn], [2, 3]);
  assert.deepEqual(request.history, {
    tokenIds: Uint32Array.of(7, 8, 9),
    answeredTokens: 1,
    turnBeginToken: 601,
    answers: [{ beginToken: 600, endToken: 601 }],
  });
  assert.equal(request.context.firstTokenUnixMs, null, 'no attempt generated one');
  const late = start({ context: { ...context, firstTokenUnixMs: '2500' } });
  assert.equal(toStartSession(late).context.firstTokenUnixMs, 2500);
});

const sparse = {
  denseBelowTokens: '8192',
  tilesPerBlock: 64,
  tilesOverrideFile: true,
  patternsSha256: 'e'.repeat(64),
  gamma: 0.95,
  tau: 0.1,
  minTiles: 8,
  guardInterval: 8,
};
/** Of the last pattern too. */
const KEYS = byPattern({ 'vertical-slash': Number.MAX_SAFE_INTEGER, 'key-bounds': 5 });
const sparseWork = {
  sparseTokens: '2048',
  denseTokens: '8192',
  attendedKeys: KEYS.map(String),
  causalKeys: KEYS.map(String),
  layerAttendedKeys: ['1', '9007199254740991'],
  layerCausalKeys: ['3', '9007199254740991'],
  estimateMicros: '1',
  indexMicros: '2',
  attentionMicros: '3',
  guardBlocks: '4',
  guardErrorSum: 0.5,
  guardErrorMax: 0.25,
};

test('thresholds and work of sparse prefill come as they were sent', () => {
  const { policy, sparseWork: work } = toStartSession(
    start({ context: { ...context, prefillPolicy: 'minference', sparse, sparseWork } }),
  ).context;
  assert.deepEqual(policy.sparse, { ...sparse, denseBelowTokens: 8192 });
  assert.deepEqual(work?.attendedKeys, KEYS);
  assert.deepEqual(work.layerAttendedKeys, [1, Number.MAX_SAFE_INTEGER]);
  assert.deepEqual(work.layerCausalKeys, [3, Number.MAX_SAFE_INTEGER]);
  assert.deepEqual([work.sparseTokens, work.guardErrorMax], [2048, 0.25]);
});

const wrong: { name: string; request: () => unknown; field: string }[] = [
  {
    name: 'work of another number of patterns',
    request: () =>
      toStartSession(
        start({ context: { ...context, sparseWork: { ...sparseWork, attendedKeys: ['1'] } } }),
      ),
    field: 'sparseWork.attendedKeys',
  },
  {
    name: 'work of other layers than it compares with',
    request: () =>
      toStartSession(
        start({ context: { ...context, sparseWork: { ...sparseWork, layerCausalKeys: ['3'] } } }),
      ),
    field: 'sparseWork.layerCausalKeys',
  },
  {
    name: 'a digest of patterns that is none',
    request: () =>
      toStartSession(
        start({ context: { ...context, sparse: { ...sparse, patternsSha256: '/' } } }),
      ),
    field: 'sparse.patternsSha256',
  },
  {
    name: 'a start without an attempt',
    request: () => toStartSession(start({ attempt: 0 })),
    field: 'attempt',
  },
  {
    name: 'a position past 2^53',
    request: () => toStartSession(start({ turnBeginToken: '18446744073709551615' })),
    field: 'turnBeginToken',
  },
  {
    name: 'an appended turn that is the first',
    request: () =>
      toAppendTurn({
        ...fence,
        turn: 0,
        tokenIds: [1],
        generation,
        context,
      } satisfies AppendTurnRequest__Output),
    field: 'turn',
  },
];

for (const { name, request, field } of wrong) {
  test(`${name} is refused by the field's name`, () => {
    assert.throws(
      request,
      (error) =>
        error instanceof ServingError &&
        error.code === 'BAD_REQUEST' &&
        error.details.fieldViolations?.[0]?.field === field,
    );
  });
}
