import assert from '../support/assert.js';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { needleSample } from '../support/needle-samples.js';
import { type LaneWorker, WorkerLane } from '../support/worker-lane.js';

const PROMPT = needleSample(1).prompt;
const SHORT = { beginToken: 0, endToken: 512 };
const SECOND = { beginToken: 512, endToken: 1024 };
const LONG = { beginToken: 512, endToken: 7680 };
/** Room for some short chunks of the embedded model, none for the long one. */
const STORE_MIB = 8;
const isRoot = process.geteuid?.() === 0;
const skip = isRoot ? false : 'only root may mount a file system of a chosen size';

let mountPoint: string;
let lane: WorkerLane;
let worker: LaneWorker;
before(async () => {
  if (!isRoot) return;
  mountPoint = mkdtempSync(join(tmpdir(), 'longshadow-full-'));
  const options = `size=${String(STORE_MIB)}m,mode=0700`;
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'longshadow-test', mountPoint]);
  lane = await WorkerLane.start(join(mountPoint, 'store'));
  worker = await lane.addWorker('worker-full');
});
after(async () => {
  if (!isRoot) return;
  await lane.stop();
  execFileSync('umount', [mountPoint]);
  rmSync(mountPoint, { recursive: true });
});

test(
  'a full store fails one chunk with what to do about it, and hurts nothing else',
  { skip },
  async () => {
    const big = await lane.open(PROMPT, [SHORT, LONG]);
    const small = await lane.open(PROMPT, [SHORT, SECOND]);
    await worker.run(big, SHORT);
    await worker.run(small, SHORT);
    const message = await worker.run(big, LONG).then(
      () => assert.fail('the chunk fits'),
      (error: unknown) => (error instanceof Error ? error.message : ''),
    );
    const failure = JSON.parse(message) as {
      code: string;
      details: { retryAfterMs: number; quota: { subject: string } };
    };
    assert.equal(failure.code, 'VALUE_STORE_FULL');
    assert.equal(failure.details.quota.subject, 'value store bytes');
    assert.ok(failure.details.retryAfterMs > 0);
    assert.deepEqual(lane.files(big), ['1-0-0-512.k', '1-0-0-512.v'], 'no unfinished file is left');
    assert.equal((await worker.status()).sessions, 2);

    assert.equal((await worker.run(small, SECOND)).alreadyDone, false, 'another session goes on');
    assert.equal((await worker.run(big, SHORT)).alreadyDone, true, 'its own segments stay');
    const ids = big.promptIds.slice(SECOND.beginToken, SECOND.endToken);
    await lane.store.tokenIds.put(big.record.sessionId, SECOND.beginToken, ids);
    assert.equal((await worker.run(big, SECOND)).alreadyDone, false, 'and a chunk that fits runs');
    await worker.release(big);
    await worker.release(small);
    assert.equal((await worker.status()).storeFiles, '0');
  },
);
