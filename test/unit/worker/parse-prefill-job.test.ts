import assert from '../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { ServingError } from '../../../services/domain/serving-error.js';
import { parsePrefillJob } from '../../../services/worker/prefill/parse-prefill-job.js';
import { job } from './fake-prefill.js';

function refusal(data: unknown): string {
  try {
    parsePrefillJob(data);
  } catch (error) {
    assert.ok(error instanceof ServingError && error.code === 'BAD_REQUEST');
    return error.message;
  }
  return '';
}

test('a job that fits comes back as it is', () => {
  const full = job({
    promptLogprobs: [
      { beginToken: 1, endToken: 3 },
      { beginToken: 1024, endToken: 1025 },
    ],
    totalTokens: 1024,
    deadlineUnixMs: 5,
  });
  assert.deepEqual(parsePrefillJob(JSON.parse(JSON.stringify(full))), full);
});

const wrong: { name: string; data: unknown; says: RegExp }[] = [
  { name: 'no object', data: null, says: /job/ },
  {
    name: 'a session id that is a path',
    data: { ...job({}), sessionId: '../..' },
    says: /sessionId/,
  },
  { name: 'a fractional position', data: { ...job({}), endToken: 1.5 }, says: /endToken/ },
  { name: 'an unknown field', data: { ...job({}), extra: 1 }, says: /extra/ },
  { name: 'another schema', data: { ...job({}), schemaVersion: 2 }, says: /schemaVersion/ },
  { name: 'epoch 0', data: job({ epoch: 0, fingerprint: '0'.repeat(32) }), says: /epoch/ },
  { name: 'an empty chunk', data: job({ endToken: 0 }), says: /less than/ },
  { name: 'a chunk off the grid', data: job({ beginToken: 5 }), says: /512/ },
  { name: 'a chunk past the prompt', data: job({ totalTokens: 1000 }), says: /totalTokens/ },
  { name: 'a seal of nothing known', data: job({ kind: 'seal' }), says: /seal/ },
  {
    name: 'log-probabilities outside the chunk',
    data: job({ promptLogprobs: [{ beginToken: 0, endToken: 3 }] }),
    says: /promptLogprobs/,
  },
  {
    name: 'overlapping log-probabilities',
    data: job({
      promptLogprobs: [
        { beginToken: 1, endToken: 5 },
        { beginToken: 4, endToken: 6 },
      ],
    }),
    says: /promptLogprobs/,
  },
];

for (const { name, data, says } of wrong) {
  test(`refused: ${name}`, () => {
    assert.match(refusal(data), says);
  });
}

test('anything at all is either a job or a refusal', () => {
  fc.assert(
    fc.property(fc.anything(), (data) => {
      assert.notEqual(refusal(data), '');
    }),
  );
});
