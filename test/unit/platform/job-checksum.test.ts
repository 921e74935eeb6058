import fc from 'fast-check';
import { test } from 'node:test';
import { checked, withChecksum } from '../../../services/platform/job-checksum.js';
import assert from '../../support/assert.js';

const JOB = { kind: 'prefill', beginToken: 512, nextTokenId: null, ranges: [{ beginToken: 1 }] };

test('a job that went through JSON is the same, without its checksum', () => {
  assert.deepEqual(checked(JSON.parse(JSON.stringify(withChecksum(JOB)))), JOB);
});

test('no flipped bit of its text passes, whatever it still parses as', () => {
  const text = Buffer.from(JSON.stringify(withChecksum(JOB)));
  const bits = fc.integer({ min: 0, max: text.length * 8 - 1 });
  fc.assert(
    fc.property(bits, (bit) => {
      const damaged = Buffer.from(text);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      let data: unknown = null;
      try {
        data = JSON.parse(damaged.toString());
      } catch {
        return; // the queue sees that by itself
      }
      assert.equal(checked(data), null);
    }),
    { numRuns: 2_000 },
  );
});

test('what is no job at all is null', () => {
  for (const data of [null, 'x', 7, [], {}, { checksum: 0 }]) assert.equal(checked(data), null);
});
