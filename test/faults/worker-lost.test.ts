import assert from '../support/assert.js';
import { after, afterEach, before } from 'node:test';
import { assertSameAnswer, type FaultCall } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { chunksOf, faultPrompt } from '../support/fault-prompts.js';
import { faultTest, type FaultRandom } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';
import { isPrefillDone } from '../support/open-call.js';

/*
 * A worker is killed, or stops, and does not come back. Its session moves to the other worker under a
 * new epoch; finished segments of the same host are linked, not made again.
 */

const PROMPT = faultPrompt();
const CHUNKS = chunksOf(PROMPT);
const HEADER = { maxNewTokens: 24 };
/** Prompts that keep a worker busy are so many times 3,000 tokens long. */
const BUSY_LENGTHS = 20;
/** Of worker names; a heartbeat that is older than 6 s counts no more. */
const LOST_WITHIN_MS = 20_000;

let faults: FaultCluster;
before(async () => {
  faults = await FaultCluster.start({ workers: 2 });
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
  faultTest(`killed in chunk ${chunk + 1} of ${CHUNKS.length}, never restarted`, async (random) => {
    const call = faults.call(HEADER, PROMPT);
    await call.sees(({ progress }) => (progress ?? null) !== null);
    const lost = await faults.workerOf(call.sessionId);
    const before = await chunksRunBy(1 - lost);
    // Nothing stands between this and the kill: the last chunk takes a fraction of a second.
    await reaches(call, chunk, random);
    const killedMs = performance.now();
    await faults.cluster.kill('worker', lost);
    const answer = await call.answer;
    assertSameAnswer(answer, await faults.undisturbed(HEADER, PROMPT));
    assert.deepEqual(answer.interruptions, ['WORKER_LOST']);
    const kinds = kindsAfterLoss(call);
    // The last chunk may be done before the kill: then only the seal is made again.
    const isDone = chunk === CHUNKS.length - 1 && !kinds.includes('progress');
    assert.deepEqual(kinds, [...(isDone ? [] : ['progress']), 'token', 'finished']);
    assert.equal((await faults.record(call.sessionId)).epoch, 2);
    assert.ok((await chunksRunBy(1 - lost)) - before <= CHUNKS.length - chunk);
    noteRecovery('worker killed, never restarted', await call.recoveryMs(killedMs));
  });
}

faultTest('killed beside a busy worker: queued and progress come again', async (random) => {
  const call = faults.call(HEADER, PROMPT);
  await call.sees(({ accepted }) => (accepted ?? null) !== null);
  const lost = await faults.workerOf(call.sessionId);
  const others = await keepBusy(1 - lost);
  await reaches(call, 0, random);
  await faults.cluster.kill('worker', lost);
  const answer = await call.answer;
  assert.ok(!others.some(({ events }) => events.some(isPrefillDone)), 'the others were too short');
  assert.deepEqual(kindsAfterLoss(call), ['queued', 'progress', 'token', 'finished']);
  for (const other of others) other.leave();
  await faults.isFree();
  assertSameAnswer(answer, await faults.undisturbed(HEADER, PROMPT));
});

/** Two long prompts on a worker, so that it is not idle between two chunks of one; others elsewhere. */
async function keepBusy(worker: number): Promise<FaultCall[]> {
  const calls: FaultCall[] = [];
  for (let there = 0; there < 2;) {
    assert.ok(calls.length < 12, `two of twelve sessions should be on worker ${worker}`);
    const prompt = faultPrompt(calls.length + 1, 3_000);
    const ids = Array.from({ length: BUSY_LENGTHS }, () => prompt).flat();
    const header = { maxNewTokens: 1, maxPromptTokens: String(ids.length) };
    const call = faults.call({ ...header, tenant: `other-${calls.length}` }, ids);
    calls.push(call);
    await call.sees(({ accepted }) => (accepted ?? null) !== null);
    if ((await faults.workerOf(call.sessionId)) === worker) there += 1;
  }
  return calls;
}

faultTest('killed during the seal, never restarted', async (random) => {
  const call = faults.call(HEADER, PROMPT);
  await call.sees(isPrefillDone);
  await new Promise((resolve) => setTimeout(resolve, random.between(0, 4)));
  await faults.cluster.kill('worker', await faults.workerOf(call.sessionId));
  assertSameAnswer(await call.answer, await faults.undisturbed(HEADER, PROMPT));
});

faultTest('a worker that wakes after its session has moved does no harm', async (random) => {
  const header = { maxNewTokens: 400 };
  const expected = await faults.undisturbed(header, PROMPT);
  const call = faults.call(header, PROMPT);
  await reaches(call, 0, random);
  const stale = await faults.workerOf(call.sessionId);
  faults.pause('worker', stale);
  try {
    const { sessionId } = call;
    await faults.recordWhere(sessionId, ({ epoch }) => epoch === 2, LOST_WITHIN_MS);
    await call.sees(({ progress }) => (progress ?? null) !== null);
  } finally {
    faults.goOn('worker', stale);
  }
  const answer = await call.answer;
  assertSameAnswer(answer, expected);
  assert.deepEqual(answer.interruptions, ['WORKER_LOST']);
  const { epoch, dataLosses } = await faults.record(call.sessionId);
  assert.deepEqual({ epoch, dataLosses }, { epoch: 2, dataLosses: 0 });
});

faultTest(
  'both workers are killed: the session waits, and goes on with the first',
  async (random) => {
    const call = faults.call(HEADER, PROMPT);
    await reaches(call, 1, random);
    await Promise.all([faults.cluster.kill('worker', 0), faults.cluster.kill('worker', 1)]);
    await faults.cluster.restart('worker', random.integer(0, 2));
    assertSameAnswer(await call.answer, await faults.undisturbed(HEADER, PROMPT));
  },
);

/** Kinds of the events after the interruption, in the order of each one's first. */
function kindsAfterLoss({ events }: FaultCall): string[] {
  const kinds = events.map(({ event }) => event ?? 'none');
  return [...new Set(kinds.slice(kinds.indexOf('interrupted') + 1))];
}

async function reaches(call: FaultCall, chunk: number, random: FaultRandom): Promise<void> {
  const { beginToken = 0, endToken = 0 } = CHUNKS[chunk] ?? {};
  await call.passes(random.between(beginToken + 1, beginToken + 0.3 * (endToken - beginToken)));
}

async function chunksRunBy(worker: number): Promise<number> {
  const { members } = await faults.status();
  const name = faults.cluster.member('worker', worker).name;
  return Number(members.find(({ memberId }) => memberId === name)?.prefillChunks ?? 0);
}
