import assert from '../support/assert.js';
import { after, afterEach, before } from 'node:test';
import { assertSameAnswer, type FaultAnswer, type FaultCall } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { chunksOf, faultPrompt } from '../support/fault-prompts.js';
import { faultTest, IS_LONG } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';
import { needleSample } from '../support/needle-samples.js';

/* Processes are told to end (SIGTERM), as an update of the cluster does. */

const PROMPT = faultPrompt();
const CHUNKS = chunksOf(PROMPT);
const HEADER = { maxNewTokens: 48 };
const LONG_ANSWER = { maxNewTokens: 800 };
const DECODE_GRACE_MS = 500;

let faults: FaultCluster;
before(async () => {
  faults = await FaultCluster.start({
    ...{ routers: 2, workers: 2, decodes: 2 },
    environment: {
      WORKER_SHUTDOWN_GRACE_MS: '20000',
      DECODE_SHUTDOWN_GRACE_MS: String(DECODE_GRACE_MS),
      ROUTER_SHUTDOWN_GRACE_MS: '1000',
    },
  });
  await faults.undisturbed(HEADER, PROMPT);
});
after(async () => {
  await faults.stop();
});
afterEach(async () => {
  await faults.settle();
});

faultTest(
  'a worker finishes its chunk, and another one goes on with its segments',
  async (random) => {
    const call = faults.call(HEADER, PROMPT);
    await call.passes(random.between(1, (CHUNKS[0]?.endToken ?? 0) * 0.7));
    const draining = await faults.workerOf(call.sessionId);
    const other = faults.cluster.member('worker', 1 - draining).name;
    const before = await chunksRunBy(other);
    const toldMs = performance.now();
    const { code } = await faults.cluster.kill('worker', draining, 'SIGTERM');
    assert.equal(code, 0);
    const answer = await call.answer;
    assertSameAnswer(answer, await faults.undisturbed(HEADER, PROMPT));
    // The first chunk was finished where it ran.
    assert.ok((await chunksRunBy(other)) - before <= CHUNKS.length - 1);
    noteRecovery('worker told to end', await call.recoveryMs(toldMs));
  },
);

faultTest('a decode streams on for its grace, then another one goes on', async (random) => {
  const expected = await faults.undisturbed(LONG_ANSWER, PROMPT);
  const call = faults.call(LONG_ANSWER, PROMPT);
  const told = await call.says(random.integer(1, 50));
  const draining = await faults.decodeOf(call.sessionId);
  const { code } = await faults.cluster.kill('decode', draining, 'SIGTERM');
  assert.equal(code, 0);
  const answer = await call.answer;
  assertSameAnswer(answer, expected);
  assert.equal(answer.interruptions.length, 1);
  const handedOver = await call.sees(({ interrupted }) => (interrupted ?? null) !== null);
  assert.ok(handedOver.atMs - told.atMs >= DECODE_GRACE_MS * 0.9);
  noteRecovery('decode told to end, after its grace', await call.recoveryMs(handedOver.atMs));
});

faultTest(
  'a router ends its streams with UNAVAILABLE, and clients go on elsewhere',
  async (random) => {
    const expected = await faults.undisturbed(LONG_ANSWER, PROMPT);
    const call = faults.call(LONG_ANSWER, PROMPT);
    await call.says(random.integer(1, 50));
    const toldMs = performance.now();
    const { code } = await faults.cluster.kill('router', 0, 'SIGTERM');
    assert.equal(code, 0);
    assertSameAnswer(await call.answer, expected);
    assert.equal(call.resumes, 1);
    noteRecovery('router told to end: client with Resume', await call.recoveryMs(toldMs));
  },
);

faultTest('a rolling restart of every process under load loses nothing', async (random) => {
  const small = needleSample(0).prompt;
  const requests = [
    { header: HEADER, ids: PROMPT },
    { header: { maxNewTokens: 200 }, ids: small },
    { header: { ...LONG_ANSWER, sampling: { temperature: 1, seed: '9' } }, ids: small },
  ];
  const expected: FaultAnswer[] = [];
  for (const { header, ids } of requests) expected.push(await faults.undisturbed(header, ids));
  let restarts = true;
  let answered = 0;
  const load = requests.map(async ({ header, ids }, index) => {
    do {
      const router = random.integer(0, 2);
      const call: FaultCall = faults.call(header, ids, { router });
      const reference = expected[index];
      assert.ok(reference);
      try {
        assertSameAnswer(await call.answer, reference);
        answered += 1;
      } catch (error) {
        // Refused before it was accepted: the client sends it again, and has lost nothing.
        if (call.events.length > 0 || !isSafeToSendAgain(error)) throw error;
      }
    } while (restarts);
  });
  try {
    await faults.cluster.rollingRestart();
    if (IS_LONG) await faults.cluster.rollingRestart();
  } finally {
    restarts = false;
  }
  await Promise.all(load);
  assert.ok(answered >= requests.length);
});

function isSafeToSendAgain(error: unknown): boolean {
  return error instanceof Error && /UNAVAILABLE/.test(error.message);
}

async function chunksRunBy(name: string): Promise<number> {
  const { members } = await faults.status();
  return Number(members.find(({ memberId }) => memberId === name)?.prefillChunks ?? 0);
}
