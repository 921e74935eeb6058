import assert from '../support/assert.js';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { SessionEvent } from '../../services/domain/session-event.js';
import { Lane, type LaneSession } from '../support/lane.js';
import { needleSample } from '../support/needle-samples.js';
import { poll } from '../support/poll.js';

/** <|end|> of the embedded model. */
const END_ID = 3;
const CHUNK_TOKENS = 2048;

let lane: Lane;
before(async () => {
  lane = await Lane.start({
    WORKER_SHUTDOWN_GRACE_MS: '200',
    DECODE_MAX_SESSIONS: '7',
    DECODE_MAX_PRIVATE_BYTES: String(2 ** 28),
  });
});
after(async () => {
  await lane.stop();
});

function tokenIds(events: readonly SessionEvent[]): number[] {
  return events.flatMap((event) => (event.type === 'token' ? [event.tokenId] : []));
}

async function release(session: LaneSession): Promise<void> {
  await lane.releaseDecode(session);
  await lane.releaseWorker(session);
}

async function assertNothingHeld(): Promise<void> {
  const [worker, decode] = await Promise.all([lane.workerStatus(), lane.decodeStatus()]);
  for (const status of [worker, decode]) {
    assert.equal(status.sessions, 0);
    assert.equal(status.storeFiles, '0');
    assert.equal(status.storeFileBytes, '0');
    assert.equal(status.mappings, '0');
    assert.equal(status.privateBytes, '0');
  }
  assert.deepEqual(readdirSync(lane.storeDirectory), []);
}

test('members announce what they can take', async () => {
  const members = await lane.store.fleet.members();
  assert.deepEqual(
    members.map(({ role, maxSessions, privateCapacityBytes }) => ({
      role,
      maxSessions,
      privateCapacityBytes,
    })),
    [
      { role: 'decode', maxSessions: 7, privateCapacityBytes: 2 ** 28 },
      { role: 'worker', maxSessions: 0, privateCapacityBytes: 0 },
    ],
  );
});

test('a prompt in chunks gets the right answer, and all is free after its release', async () => {
  const sample = needleSample(1);
  const session = await lane.open(sample.prompt);
  const wanted = { beginToken: 100, endToken: 102 };
  const first = await lane.run(
    session,
    { beginToken: 0, endToken: CHUNK_TOKENS },
    { promptLogprobs: [wanted] },
  );
  assert.equal(first.alreadyDone, false);
  await lane.prefill(session, CHUNK_TOKENS); // the first chunk is answered from what is there
  await lane.startDecode(session);
  const events = await lane.eventsToEnd(session);
  assert.deepEqual(tokenIds(events), [...sample.answer, END_ID]);

  const progress = events.flatMap((event) => (event.type === 'progress' ? [event] : []));
  assert.equal(progress.at(-1)?.processedTokens, sample.prompt.length);
  assert.equal(progress.at(-1)?.etaMs, 0);
  const logprobs = progress.flatMap((event) => event.promptLogprobs);
  assert.deepEqual(
    logprobs.map(({ position, tokenId }) => [position, tokenId]),
    [
      [100, sample.prompt[100]],
      [101, sample.prompt[101]],
    ],
  );
  assert.ok(logprobs.every(({ logprob, rank }) => logprob < 0 && rank >= 1));
  const finished = events.at(-1);
  assert.ok(finished?.type === 'finished' && finished.finishReason === 'stop');
  assert.equal(finished.report.completionTokens, sample.answer.length + 1);
  const digits = events.flatMap((event) => (event.type === 'token' ? [event.text] : []));
  assert.match(digits.join('') + finished.text, /^\s*\d+$/);

  const status = await lane.decodeStatus();
  assert.equal(status.decodeCalls, status.decodeSteps);
  assert.equal(Number(status.decodeSteps), sample.answer.length + 1, 'one call a step');
  assert.equal(status.sessions, 0, 'freed at the end of the turn');
  assert.ok((await lane.releaseWorker(session)) > 0);
  await assertNothingHeld();
});

test('a release in the middle of a chunk frees everything within 500 ms', async () => {
  const sample = needleSample(2);
  const session = await lane.open(sample.prompt);
  const failed = assert.rejects(
    lane.run(session, { beginToken: 0, endToken: 15_872 }),
    (error: unknown) => error instanceof Error && /^\{"code":"CANCELLED"/.test(error.message),
  );
  await poll(
    () => lane.store.events.read(session.record.sessionId, 0, 10),
    (events) => events.length > 0,
    30_000,
  );
  const startedMs = performance.now();
  await lane.releaseWorker(session);
  const freedMs = performance.now() - startedMs;
  await assertNothingHeld();
  await failed;
  assert.ok(freedMs < 500, `free after ${freedMs.toFixed(0)} ms`);
  await assert.rejects(
    lane.run(session, { beginToken: 0, endToken: 512 }),
    /STALE_EPOCH/,
    'the epoch is over',
  );
});

test('sessions of different lengths in one batch get the tokens that they get alone', async () => {
  const samples = [needleSample(0), needleSample(1), needleSample(0)];
  const sessions = await Promise.all(samples.map((sample) => lane.open(sample.prompt)));
  await Promise.all(sessions.map((session) => lane.prefill(session, CHUNK_TOKENS)));
  const before = Number((await lane.decodeStatus()).decodeSteps);
  await Promise.all(sessions.map((session) => lane.startDecode(session)));
  const events = await Promise.all(sessions.map((session) => lane.eventsToEnd(session)));
  events.forEach((mine, index) => {
    assert.deepEqual(tokenIds(mine), [...(samples[index]?.answer ?? []), END_ID]);
  });
  const status = await lane.decodeStatus();
  const steps = Number(status.decodeSteps) - before;
  assert.equal(status.decodeCalls, status.decodeSteps);
  const tokens = events.reduce((sum, mine) => sum + tokenIds(mine).length, 0);
  assert.ok(steps < tokens, `${steps} steps for ${tokens} tokens: they shared steps`);
  await Promise.all(sessions.map(release));
  await assertNothingHeld();
});

test('a kept session takes a second turn, as if its tokens had been in the prompt', async () => {
  const sample = needleSample(0);
  const cut = 1500;
  const kept = await lane.open(sample.prompt.slice(0, cut));
  await lane.prefill(kept, CHUNK_TOKENS);
  await lane.startDecode(kept, { maxNewTokens: 3, keepSessionMs: 60_000 });
  const firstTurn = await lane.eventsToEnd(kept);
  const generated = tokenIds(firstTurn);
  const finished = firstTurn.at(-1);
  assert.ok(finished?.type === 'finished' && (finished.keptUntilUnixMs ?? 0) > Date.now());
  assert.equal((await lane.decodeStatus()).sessions, 1);

  const rest = sample.prompt.slice(cut);
  const last = { beginToken: cut + 3, endToken: cut + 3 + rest.length };
  const beginToken = await lane.appendTurn(kept, rest, { promptLogprobs: [last] });
  assert.equal(beginToken, cut + generated.length);
  const secondTurn = await lane.eventsToEnd(kept, firstTurn.length);

  const whole = await lane.open([...sample.prompt.slice(0, cut), ...generated, ...rest]);
  await lane.run(
    whole,
    { beginToken: 0, endToken: whole.promptIds.length },
    { promptLogprobs: [last] },
  );
  const end = { beginToken: whole.promptIds.length, endToken: whole.promptIds.length };
  await lane.run(whole, end);
  await lane.startDecode(whole);
  const alone = await lane.eventsToEnd(whole);
  assert.deepEqual(tokenIds(secondTurn), tokenIds(alone));
  const logprobsOf = (events: readonly SessionEvent[]) =>
    events.flatMap((event) => (event.type === 'progress' ? event.promptLogprobs : []));
  const [mine, theirs] = [logprobsOf(secondTurn), logprobsOf(alone)];
  assert.equal(mine.length, rest.length);
  assert.deepEqual(
    mine.map(({ position, tokenId }) => [position, tokenId]),
    theirs.map(({ position, tokenId }) => [position, tokenId]),
  );
  await Promise.all([kept, whole].map(release));
  await assertNothingHeld();
});

test('a worker that is killed and comes back goes on where it was', async () => {
  const sample = needleSample(2);
  const session = await lane.open(sample.prompt);
  await lane.run(session, { beginToken: 0, endToken: CHUNK_TOKENS });
  // Long enough that the kill lands inside it, however fast the machine is.
  const endToken = 6 * CHUNK_TOKENS;
  const interrupted = lane.run(session, { beginToken: CHUNK_TOKENS, endToken });
  await poll(
    async () => (await lane.workerStatus()).storeFiles,
    (files) => Number(files) > 2,
    30_000,
  );
  await lane.restartWorker('SIGKILL');
  // Its lock runs out, and the next life of the worker takes the job up again.
  assert.equal((await interrupted).alreadyDone, false);
  const again = await lane.run(session, { beginToken: 0, endToken: CHUNK_TOKENS });
  assert.equal(again.alreadyDone, true);
  const total = sample.prompt.length;
  await lane.run(session, { beginToken: endToken, endToken: total });
  await lane.run(session, { beginToken: total, endToken: total });
  assert.equal(await lane.restartWorker('SIGTERM'), 0, 'a clean end');
  assert.ok(readdirSync(lane.storeDirectory).length > 0, 'segments stay');
  await lane.startDecode(session); // sealed again on demand, from the adopted segments
  const told = tokenIds(await lane.eventsToEnd(session));
  // What this model says after a traced variable is not part of the sample's answer.
  assert.deepEqual(told.slice(0, sample.answer.length), sample.answer);
  await release(session);
  await assertNothingHeld();
});

test('SIGTERM in a chunk that outlasts the grace gives the job back and keeps the session', async () => {
  const session = await lane.open(needleSample(2).prompt);
  await lane.run(session, { beginToken: 0, endToken: 512 });
  const failed = assert.rejects(
    lane.run(session, { beginToken: 512, endToken: 15_872 }),
    (error: unknown) => error instanceof Error && /^\{"code":"SHUTTING_DOWN"/.test(error.message),
  );
  await poll(
    async () => (await lane.workerStatus()).storeFiles,
    (files) => Number(files) > 2,
    30_000,
  );
  assert.equal(await lane.restartWorker('SIGTERM'), 0, 'a clean end');
  await failed;
  const again = await lane.run(session, { beginToken: 0, endToken: 512 });
  assert.equal(again.alreadyDone, true);
  await release(session);
  await assertNothingHeld();
});

test('a decode takes no session whose bytes carry another fingerprint', async () => {
  const session = await lane.open(needleSample(0).prompt);
  await lane.prefill(session, CHUNK_TOKENS);
  const foreign = { ...session, record: { ...session.record, fingerprint: 'f'.repeat(32) } };
  await assert.rejects(lane.startDecode(foreign), /fingerprint/);
  await release(session);
  await assertNothingHeld();
});

test('a turn that SIGTERM cuts off is given back, not left in silence', async () => {
  const other = await Lane.start({ DECODE_SHUTDOWN_GRACE_MS: '200' });
  try {
    const session = await other.open(needleSample(0).prompt);
    await other.prefill(session, CHUNK_TOKENS);
    await other.startDecode(session, { maxNewTokens: 1_000_000, ignoreEos: true });
    const { sessionId } = session.record;
    await poll(
      () => other.store.events.read(sessionId, 0, 100),
      (events) => events.some(({ event }) => event.type === 'token'),
      30_000,
    );
    other.decode.child.signal('SIGTERM');
    assert.equal((await other.decode.child.exited).code, 0, 'a clean end');
    const last = (await other.store.events.read(sessionId, 0, 1_000_000)).at(-1)?.event;
    assert.equal(last?.type === 'interrupted' ? last.code : last?.type, 'SHUTTING_DOWN');
  } finally {
    await other.stop();
  }
});
