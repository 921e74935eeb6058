import assert from '../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { prefillJobId } from '../../../services/domain/prefill-job.js';
import { ServingError } from '../../../services/domain/serving-error.js';
import { parsePrefillJob } from '../../../services/worker/prefill/parse-prefill-job.js';
import { job } from './fake-prefill.js';

const ID = prefillJobId(job({}));

function refusal(data: unknown, jobId = ID): string {
  try {
    parsePrefillJob(jobId, data);
  } catch (error) {
    assert.ok(error instanceof ServingError && error.code === 'JOB_CORRUPT');
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
  assert.deepEqual(parsePrefillJob(ID, JSON.parse(JSON.stringify(full))), full);
});

const wrong: { name: string; data: unknown; id?: string; says: RegExp }[] = [
  { name: 'no object', data: null, says: /job/ },
  {
    name: 'a session id that is a path',
    data: { ...job({}), sessionId: '../..' },
    says: /sessionId/,
  },
  { name: 'a fractional position', data: { ...job({}), endToken: 1.5 }, says: /endToken/ },
  { name: 'an unknown field', data: { ...job({}), extra: 1 }, says: /extra/ },
  { name: 'an older schema', data: { ...job({}), schemaVersion: 3 }, says: /schemaVersion/ },
  { name: 'a newer schema', data: { ...job({}), schemaVersion: 5 }, says: /schemaVersion/ },
  { name: 'epoch 0', data: job({ epoch: 0, fingerprint: '0'.repeat(32) }), says: /epoch/ },
  { name: 'an empty chunk', data: job({ endToken: 0 }), says: /less than/ },
  {
    name: 'a chunk off the grid',
    data: job({ beginToken: 5 }),
    id: prefillJobId(job({ beginToken: 5 })),
    says: /512/,
  },
  { name: "another session's fields", data: job({ sessionId: 'd'.repeat(32) }), says: /ddd-1-0-0/ },
  { name: "another chunk's fields", data: job({ beginToken: 512 }), says: /-1-512-0/ },
  { name: 'a missing count', data: { ...job({}), cachedTokens: undefined }, says: /cachedTokens/ },
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

for (const { name, data, id, says } of wrong) {
  test(`refused: ${name}`, () => {
    assert.match(refusal(data, id), says);
  });
}

test('anything at all is either a job or a refusal', () => {
  fc.assert(
    fc.property(fc.anything(), (data) => {
      assert.notEqual(refusal(data), '');
    }),
  );
});
