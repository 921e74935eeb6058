import assert from '../support/assert.js';
import { after, afterEach, before } from 'node:test';
import { assertSameAnswer, type FaultCall } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { chunksOf, faultPrompt } from '../support/fault-prompts.js';
import { faultTest, type FaultRandom } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';
import { isPrefillDone } from '../support/open-call.js';

/*
 * A worker is killed and comes back on its host. There is no other worker, so the session waits for
 * it and goes on at the first chunk without a finished segment.
 */

const PROMPT = faultPrompt();
const CHUNKS = chunksOf(PROMPT);
const HEADER = {
  maxNewTokens: 24,
  promptLogprobs: [{ beginToken: '1', endToken: String(PROMPT.length) }],
};

let faults: FaultCluster;
before(async () => {
  faults = await FaultCluster.start();
  await faults.undisturbed(HEADER, PROMPT);
  await faults.isFree();
});
after(async () => {
  await faults.stop();
});
afterEach(async () => {
  await faults.settle();
});

for (const chunk of new Set([0, Math.floor(CHUNKS.length / 2), CHUNKS.length - 1])) {
  faultTest(`killed in chunk ${chunk + 1} of ${CHUNKS.length}, restarted`, async (random) => {
    const { call, killedMs } = await killWithin(chunk, random);
    await faults.cluster.restart('worker', 0);
    await goesOn(call, killedMs);
    const { members } = await faults.status();
    const worker = members.find(({ role }) => role === 'worker');
    // Finished chunks are not run again.
    assert.ok(Number(worker?.prefillChunks) <= CHUNKS.length - chunk, worker?.prefillChunks);
  });
}

faultTest('killed during the seal, restarted', async (random) => {
  const call = faults.call(HEADER, PROMPT);
  await call.sees(isPrefillDone);
  await new Promise((resolve) => setTimeout(resolve, random.between(0, 4)));
  const killedMs = performance.now();
  await faults.cluster.kill('worker', 0);
  await faults.cluster.restart('worker', 0);
  await goesOn(call, killedMs);
});

faultTest('killed again and again, the session still ends well', async (random) => {
  const call = faults.call(HEADER, PROMPT);
  for (const { beginToken, endToken } of CHUNKS.slice(0, -1)) {
    await call.passes(random.between(beginToken + 1, endToken));
    await faults.cluster.kill('worker', 0);
    await faults.cluster.restart('worker', 0);
  }
  assertSameAnswer(await call.answer, await faults.undisturbed(HEADER, PROMPT));
});

/** Kills the worker at some moment of a chunk. */
async function killWithin(
  chunk: number,
  random: FaultRandom,
): Promise<{ readonly call: FaultCall; readonly killedMs: number }> {
  const call = faults.call(HEADER, PROMPT);
  const { beginToken = 0, endToken = 0 } = CHUNKS[chunk] ?? {};
  await call.passes(random.between(beginToken + 1, beginToken + 0.7 * (endToken - beginToken)));
  const killedMs = performance.now();
  await faults.cluster.kill('worker', 0);
  return { call, killedMs };
}

async function goesOn(call: FaultCall, killedMs: number): Promise<void> {
  assertSameAnswer(await call.answer, await faults.undisturbed(HEADER, PROMPT));
  noteRecovery('worker killed, restarted at once', await call.recoveryMs(killedMs));
}
