import { status as grpcStatus } from '@grpc/grpc-js';
import assert from '../support/assert.js';
import { after, afterEach, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { GenerateResponse__Output } from '../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { ServiceError } from '@grpc/grpc-js';
import { ENDED_STATES } from '../../services/domain/session-record.js';
import { assertSameAnswer, type FaultAnswer, type FaultCall } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { faultPrompt } from '../support/fault-prompts.js';
import { faultTest } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';

/* A router is killed; the other one takes its sessions over, and clients go on with Resume there. */

const PROMPT = faultPrompt();
const NEW_TOKENS = 300;
const HEADER = { maxNewTokens: NEW_TOKENS };
const ENDLESS = { maxNewTokens: 100_000 };
/** From the router's death to another one's lease. */
const TAKEOVER_MS = 6_000;
/** Redis forgets within it that a dead router had a client. */
const CLIENT_FORGOTTEN_MS = 6_000;
/** A driver looks for its client once a second, and frees memory at once. */
const SLACK_MS = 2_000;
const LOOK_MS = 5;

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
  const { atMs, takenOver } = await loseRouter(sessionId, async () =>
    faults.cluster.kill('router', 0),
  );
  const answer = await call.answer;
  assertSameAnswer(answer, await faults.undisturbed(HEADER, PROMPT));
  assert.equal(call.resumes, 1);
  noteRecovery('router killed: client with Resume', await call.recoveryMs(atMs));
  noteRecovery('router killed: another one drives', (await takenOver).byMs - atMs);
}

/** When a session got another driver, performance.now(): between two looks. */
interface Takeover {
  readonly afterMs: number;
  readonly byMs: number;
}

/**
 * Kills or stops the router that drives a session.
 * @returns `takenOver` rejects unless another router has the lease within TAKEOVER_MS of that
 */
async function loseRouter(
  sessionId: string,
  lose: () => unknown,
): Promise<{ readonly atMs: number; readonly takenOver: Promise<Takeover> }> {
  const driver = await faults.store.records.leaseHolder(sessionId);
  assert.ok(driver !== null);
  const atMs = performance.now();
  const lost = lose();
  const takenOver = nextDriver(sessionId, driver, atMs);
  takenOver.catch(() => undefined); // awaited later
  await lost;
  return { atMs, takenOver };
}

/** A turn may be over soon after: only a driver writes down that it is. */
async function nextDriver(sessionId: string, driver: string, lostMs: number): Promise<Takeover> {
  const { records } = faults.store;
  for (let afterMs = lostMs; ;) {
    const lookMs = performance.now();
    const [holder, { state }] = await Promise.all([
      records.leaseHolder(sessionId),
      faults.record(sessionId),
    ]);
    const byMs = performance.now();
    if ((holder !== null && holder !== driver) || ENDED_STATES.has(state)) {
      assert.ok(lookMs - lostMs <= TAKEOVER_MS, `taken over after ${lookMs - lostMs} ms`);
      return { afterMs, byMs };
    }
    assert.ok(lookMs - lostMs <= TAKEOVER_MS, `not taken over within ${TAKEOVER_MS} ms`);
    afterMs = lookMs;
    await sleep(LOOK_MS);
  }
}

faultTest(
  'killed while the upload is open: UNAVAILABLE, and the memory is free',
  async (random) => {
    const call = faults.call(ENDLESS, PROMPT, { closes: false });
    await call.passes(random.between(1, PROMPT.length / 2));
    const { takenOver } = await loseRouter(call.sessionId, async () =>
      faults.cluster.kill('router', 0),
    );
    const failure = await call.failure();
    assert.equal(failure.code, grpcStatus.UNAVAILABLE, failure.details);
    assert.match(failure.details, /^UPLOAD_LOST: /);
    await takenOver;
    await faults.isFree(SLACK_MS);
  },
);

for (const onDisconnect of ['ON_DISCONNECT_CANCEL', 'ON_DISCONNECT_KEEP'] as const) {
  faultTest(`killed, and nobody comes back in time, ${onDisconnect}`, async (random) => {
    const graceMs = 2_000;
    const header = { ...ENDLESS, onDisconnect, resumeGraceMs: String(graceMs) };
    const call = faults.call(header, PROMPT, { resumes: false });
    await call.says(random.integer(1, 20));
    const { atMs, takenOver } = await loseRouter(call.sessionId, async () =>
      faults.cluster.kill('router', 0),
    );
    await call.failure();
    const { afterMs, byMs } = await takenOver;
    const absentMs = Math.max(byMs, atMs + CLIENT_FORGOTTEN_MS);
    await faults.isFree(absentMs + graceMs + SLACK_MS - performance.now());
    assert.ok(performance.now() - afterMs >= graceMs, 'the grace begins with the takeover');
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
  await sleep(random.between(1_000, TAKEOVER_MS));
  const { events, failure } = await resume(1, call.sessionId, lastSeen.sequence);
  assert.equal(failure, null);
  assertWhole([...call.events, ...events], expected);
});

for (const leaves of [false, true]) {
  const client = leaves ? 'its client has left it' : 'its client waits there too';
  faultTest(`stopped until another one drives, then awake: ${client}`, async (random) => {
    const expected = await faults.undisturbed(HEADER, PROMPT);
    const call = faults.call(HEADER, PROMPT, { resumes: false });
    // Once the chunk that runs is done its session waits for the next driver.
    await call.passes(random.between(1, PROMPT.length / 2));
    const { sessionId } = call;
    const { takenOver } = await loseRouter(sessionId, () => {
      faults.pause('router', 0);
    });
    try {
      if (leaves) call.leave();
      const second = resume(1, sessionId, '0');
      await takenOver;
      assert.ok(!ENDED_STATES.has((await faults.record(sessionId)).state));
      faults.goOn('router', 0);
      const { events, failure } = await second;
      assert.equal(failure, null);
      assertWhole(events, expected);
    } finally {
      faults.goOn('router', 0);
    }
    assert.equal(
      (await call.failure()).code,
      leaves ? grpcStatus.CANCELLED : grpcStatus.UNAVAILABLE,
    );
    const { epoch, state } = await faults.recordWhere(sessionId, (now) =>
      ENDED_STATES.has(now.state),
    );
    assert.deepEqual({ epoch, state }, { epoch: 1, state: 'finished' });
  });
}

/** Every event of a session once, in order, and the answer that nothing disturbed. */
function assertWhole(events: readonly GenerateResponse__Output[], expected: FaultAnswer): void {
  assert.deepEqual(
    events.map(({ sequence }) => Number(sequence)),
    events.map((_, place) => place + 1),
  );
  assert.deepEqual(
    events.flatMap(({ token }) => (token ? [token] : [])),
    expected.tokens,
  );
  assert.ok(events.at(-1)?.finished);
}

faultTest('a client that is cut off under keep comes back to the other router', async (random) => {
  const expected = await faults.undisturbed(HEADER, PROMPT);
  const onDisconnect = 'ON_DISCONNECT_KEEP';
  const call = faults.call({ ...HEADER, onDisconnect, resumeGraceMs: '20000' }, PROMPT);
  await call.says(random.integer(1, NEW_TOKENS * 0.5));
  call.leave();
  await call.failure();
  const { events, failure } = await resume(1, call.sessionId, '0');
  assert.equal(failure, null);
  assert.deepEqual(
    events.flatMap(({ token }) => (token ? [token.tokenId] : [])),
    expected.ids,
  );
});

const toldAgain =
  'an ended session is told again, the same on every router; wrong places are refused';
faultTest(toldAgain, async (random) => {
  const { sessionId, finished } = await faults.call(HEADER, PROMPT).answer;
  assert.equal(finished.usage?.completionTokens, String(NEW_TOKENS));
  const first = await resume(0, sessionId, '0');
  const second = await resume(1, sessionId, '0');
  assert.deepEqual(first, second);
  const last = first.events.at(-1);
  assert.ok(last?.finished);
  assert.deepEqual(await resume(1, sessionId, last.sequence), { events: [], failure: null });
  const seen = random.integer(1, Number(last.sequence));
  const rest = { events: first.events.slice(seen), failure: null };
  assert.deepEqual(await resume(random.integer(0, 2), sessionId, String(seen)), rest);

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
