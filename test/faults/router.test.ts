import { status as grpcStatus } from '@grpc/grpc-js';
import assert from '../support/assert.js';
import { after, afterEach, before, test } from 'node:test';
import type { GenerateResponse__Output } from '../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { ServiceError } from '@grpc/grpc-js';
import { assertSameAnswer, type FaultCall } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { faultPrompt } from '../support/fault-prompts.js';
import { faultTest } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';
import { poll } from '../support/poll.js';

/* A router is killed; the other one takes its sessions over, and clients go on with Resume there. */

const PROMPT = faultPrompt();
const NEW_TOKENS = 300;
const HEADER = { maxNewTokens: NEW_TOKENS };
const ENDLESS = { maxNewTokens: 100_000 };
/** From the router's death to another one's lease. */
const TAKEOVER_MS = 6_000;
/** What a lost or late look at Redis adds to a grace. */
const SLACK_MS = 3_000;

let faults: FaultCluster;
before(async () => {
  faults = await FaultCluster.start({ routers: 2 });
  await faults.undisturbed(HEADER, PROMPT);
});
after(async () => {
  await faults.stop();
});
afterEach(async () => {
  await faults.settle();
});

faultTest('killed in prefill: the client goes on with Resume', async (random) => {
  const call = faults.call(HEADER, PROMPT);
  await call.passes(random.between(1, PROMPT.length * 0.8));
  await isTakenOver(call);
});

faultTest('killed in decode: the client goes on with Resume', async (random) => {
  const call = faults.call(HEADER, PROMPT);
  await call.says(random.integer(1, NEW_TOKENS * 0.5));
  await isTakenOver(call);
});

/** Kills the first router; its session has another driver in time, and its client all events. */
async function isTakenOver(call: FaultCall): Promise<void> {
  const { sessionId } = call;
  const driver = await faults.store.records.leaseHolder(sessionId);
  const killedMs = performance.now();
  await faults.cluster.kill('router', 0);
  const takenOver = poll(
    () => faults.store.records.leaseHolder(sessionId),
    (holder) => holder !== null && holder !== driver,
    TAKEOVER_MS,
  ).then(() => {
    noteRecovery('router killed: another one drives', performance.now() - killedMs);
  });
  const answer = await call.answer;
  assertSameAnswer(answer, await faults.undisturbed(HEADER, PROMPT));
  assert.equal(call.resumes, 1);
  noteRecovery('router killed: client with Resume', await call.recoveryMs(killedMs));
  // A session that ended well before the lease ran out has no driver any more.
  const { state } = await faults.record(sessionId);
  if (state !== 'finished') await takenOver;
  else await takenOver.catch(() => undefined);
}

faultTest(
  'killed while the upload is open: UNAVAILABLE, and the memory is free',
  async (random) => {
    const call = faults.call(ENDLESS, PROMPT, { closes: false });
    await call.passes(random.between(1, PROMPT.length / 2));
    await faults.cluster.kill('router', 0);
    const failure = await call.failure();
    assert.equal(failure.code, grpcStatus.UNAVAILABLE, failure.details);
    assert.match(failure.details, /^UPLOAD_LOST: /);
    await faults.isFree(TAKEOVER_MS);
  },
);

for (const onDisconnect of ['ON_DISCONNECT_CANCEL', 'ON_DISCONNECT_KEEP'] as const) {
  faultTest(`killed, and nobody comes back in time, ${onDisconnect}`, async (random) => {
    const graceMs = 2_000;
    const header = { ...ENDLESS, onDisconnect, resumeGraceMs: String(graceMs) };
    const call = faults.call(header, PROMPT, { resumes: false });
    await call.says(random.integer(1, 20));
    const killedMs = performance.now();
    await faults.cluster.kill('router', 0);
    await call.failure();
    await faults.isFree(TAKEOVER_MS + graceMs + SLACK_MS);
    assert.ok(performance.now() - killedMs >= graceMs);
  });
}

faultTest('killed, and the client comes back late but within the grace', async (random) => {
  const header = { maxNewTokens: 2 * NEW_TOKENS, resumeGraceMs: '20000' };
  const expected = await faults.undisturbed(header, PROMPT);
  const call = faults.call(header, PROMPT, { resumes: false });
  await call.says(random.integer(1, 50));
  await faults.cluster.kill('router', 0);
  await call.failure();
  const lastSeen = call.events.at(-1);
  assert.ok(lastSeen);
  await new Promise((resolve) => setTimeout(resolve, random.between(1_000, TAKEOVER_MS)));
  const { events, failure } = await resume(1, call.sessionId, lastSeen.sequence);
  assert.equal(failure, null);
  const all = [...call.events, ...events];
  assert.deepEqual(
    all.map(({ sequence }) => Number(sequence)),
    all.map((_, place) => place + 1),
  );
  assert.deepEqual(
    all.flatMap(({ token }) => (token ? [token.tokenId] : [])),
    expected.ids,
  );
});

test('a client that is cut off under keep comes back to the other router', async () => {
  const expected = await faults.undisturbed(HEADER, PROMPT);
  const onDisconnect = 'ON_DISCONNECT_KEEP';
  const call = faults.call({ ...HEADER, onDisconnect, resumeGraceMs: '20000' }, PROMPT);
  await call.says(5);
  call.leave();
  await call.failure();
  const { events, failure } = await resume(1, call.sessionId, '0');
  assert.equal(failure, null);
  assert.deepEqual(
    events.flatMap(({ token }) => (token ? [token.tokenId] : [])),
    expected.ids,
  );
});

test('an ended session is told again, the same on every router; wrong places are refused', async () => {
  const { sessionId, finished } = await faults.call(HEADER, PROMPT).answer;
  assert.equal(finished.usage?.completionTokens, String(NEW_TOKENS));
  const first = await resume(0, sessionId, '0');
  const second = await resume(1, sessionId, '0');
  assert.deepEqual(first, second);
  const last = first.events.at(-1);
  assert.ok(last?.finished);
  assert.deepEqual(await resume(1, sessionId, last.sequence), { events: [], failure: null });

  const beyond = await resume(0, sessionId, String(Number(last.sequence) + 1));
  assert.equal(beyond.failure?.code, grpcStatus.INVALID_ARGUMENT);
  const unknown = await resume(0, '0'.repeat(32), '0');
  assert.equal(unknown.failure?.code, grpcStatus.NOT_FOUND);
});

async function resume(
  router: number,
  sessionId: string,
  afterSequence: string,
): Promise<{ events: GenerateResponse__Output[]; failure: ServiceError | null }> {
  const events: GenerateResponse__Output[] = [];
  const call = faults.client(router).resume({ sessionId, afterSequence });
  const failure = await new Promise<ServiceError | null>((settle) => {
    call.on('data', (event: GenerateResponse__Output) => events.push(event));
    call.on('error', settle);
    call.on('end', () => {
      setImmediate(settle, null);
    });
  });
  return { events, failure };
}
