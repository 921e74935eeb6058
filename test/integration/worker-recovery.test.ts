import assert from '../support/assert.js';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { prefillJobId } from '../../services/domain/prefill-job.js';
import type { TokenRange } from '../../services/domain/token-range.js';
import { needleSample } from '../support/needle-samples.js';
import { poll } from '../support/poll.js';
import { type LaneWorker, WorkerLane, type WorkerSession } from '../support/worker-lane.js';

const PROMPT = needleSample(2).prompt;
/** Cuts that a first short chunk and a long second one share. */
const FIRST = { beginToken: 0, endToken: 2048 };
/** Long enough that a signal lands inside it, however fast the machine is. */
const LONG = { beginToken: 2048, endToken: 8192 };
const CHUNKS = [FIRST, LONG];
const WANTED = { beginToken: LONG.beginToken + 1, endToken: LONG.beginToken + 300 };

let lane: WorkerLane;
let worker: LaneWorker;
let other: LaneWorker;
before(async () => {
  lane = await WorkerLane.start();
  [worker, other] = await Promise.all([
    lane.addWorker('worker-one', { WORKER_SHUTDOWN_GRACE_MS: '120000' }),
    lane.addWorker('worker-two'),
  ]);
});
after(async () => {
  await lane.stop();
});

function failsWith(code: string) {
  return (error: unknown): boolean =>
    error instanceof Error && error.message.startsWith(`{"code":"${code}"`);
}

async function assertNothingHeld(...workers: LaneWorker[]): Promise<void> {
  for (const one of workers) {
    const status = await one.status();
    assert.equal(status.sessions, 0);
    assert.equal(status.mappings, '0');
  }
  assert.deepEqual(readdirSync(lane.storeDirectory), []);
}

/** Has the session's next plan take [0, endToken) of what another plan made. */
async function reuse(
  taker: WorkerSession,
  source: { readonly sessionId: string; readonly epoch: number; readonly fingerprint: string },
  endToken: number,
): Promise<void> {
  const { sessionId, epoch } = taker.record;
  const { segments } = await other.reuse({
    ...{ sessionId, epoch, sourceSessionId: source.sessionId, sourceEpoch: source.epoch },
    ...{ beginToken: 0, endToken },
  });
  assert.equal(Number(segments.at(-1)?.endToken), endToken);
  const origins = [{ beginToken: 0, endToken, fingerprint: source.fingerprint }];
  await lane.change(taker, { origins });
}

test("another session's segments are adopted: the rest gives the same bits, and outlives them", async () => {
  const donor = await lane.open(PROMPT, CHUNKS);
  await other.run(donor, FIRST);
  const wanted = { promptLogprobs: [WANTED] };
  await other.run(donor, LONG, wanted);

  const taker = await lane.open(PROMPT, CHUNKS);
  await reuse(taker, donor.record, FIRST.endToken);
  await other.release(donor);
  const before = Number((await other.status()).prefillTokens);
  await other.run(taker, LONG, { ...wanted, cachedTokens: FIRST.endToken });
  const ran = Number((await other.status()).prefillTokens) - before;
  assert.equal(ran, LONG.endToken - LONG.beginToken, 'the linked chunk was not run');
  const [mine, theirs] = await Promise.all([lane.logprobs(taker), lane.logprobs(donor)]);
  assert.equal(mine.length, WANTED.endToken - WANTED.beginToken);
  assert.deepEqual(mine, theirs);
  const [event] = await lane.store.events.read(taker.record.sessionId, 0, 1);
  assert.equal(event?.event.type === 'progress' && event.event.cachedTokens, FIRST.endToken);
  await other.release(taker);
  await assertNothingHeld(other);
});

test('a session whose worker is killed in mid chunk goes on at another one with what is finished', async () => {
  const victim = await lane.addWorker('worker-victim');
  const session = await lane.open(PROMPT, CHUNKS);
  await victim.run(session, FIRST);
  await victim.add(session, LONG);
  await lane.isRunning(session, LONG.beginToken);
  victim.signal('SIGKILL');
  await victim.service.child.exited;

  const source = session.record;
  await lane.change(session, { epoch: 2 });
  await reuse(session, source, FIRST.endToken);
  assert.deepEqual(lane.files(session), ['2-0-0-2048.k', '2-0-0-2048.v'], 'no leftovers');
  assert.equal((await other.run(session, FIRST)).alreadyDone, true);
  assert.equal((await other.run(session, LONG)).alreadyDone, false);
  await other.release(session);
  await assertNothingHeld(other);
});

test("a plan's first chunk removes what a dead worker left of older plans", async () => {
  const victim = await lane.addWorker('worker-victim');
  const session = await lane.open(PROMPT, CHUNKS);
  await victim.run(session, FIRST);
  await victim.add(session, LONG);
  await lane.isRunning(session, LONG.beginToken);
  victim.signal('SIGKILL');
  await victim.service.child.exited;
  await lane.change(session, { epoch: 2 });
  await other.run(session, FIRST);
  assert.deepEqual(lane.files(session), ['2-0-0-2048.k', '2-0-0-2048.v']);

  const abandoned = await lane.open(PROMPT, CHUNKS);
  await other.run(abandoned, FIRST);
  await worker.release(abandoned); // that never held it
  assert.deepEqual(lane.files(abandoned), []);
  await Promise.all([session, abandoned].map(async (each) => other.release(each)));
  await assertNothingHeld(other);
});

/** Stops the worker in mid chunk, gives the session another plan, and wakes the worker up. */
async function wakeStale(session: WorkerSession, chunk: TokenRange): Promise<boolean> {
  const ended = worker.ended(await worker.add(session, chunk)).then(
    () => 'done',
    (error: unknown) => (error instanceof Error ? error.message : ''),
  );
  await lane.isRunning(session, chunk.beginToken);
  worker.signal('SIGSTOP');
  const isMidChunk = lane.files(session).some((name) => name.includes('.tmp-'));
  await lane.change(session, { epoch: 2 });
  const told = (await lane.store.events.read(session.record.sessionId, 0, 1000)).length;
  worker.signal('SIGCONT');
  const end = await ended;
  if (!isMidChunk) return false; // too fast for the signal
  assert.match(end, /^\{"code":"STALE_EPOCH"/);
  await poll(
    () => readdirSync(lane.storeDirectory),
    (folders) => folders.length === 0,
    10_000,
  );
  await assertNothingHeld(worker);
  const events = await lane.store.events.read(session.record.sessionId, 0, 1000);
  assert.equal(events.length, told, 'nothing was told after the plan had changed');
  return true;
}

test('a stale worker that wakes in mid chunk leaves nothing behind and tells nothing', async () => {
  const session = await lane.open(PROMPT, CHUNKS);
  await worker.run(session, FIRST);
  assert.ok(await wakeStale(session, LONG));
});

test('a stale worker that finishes its chunk at once takes the segment with it', async () => {
  // Short: the chunk's end is the first that Redis hears of it.
  const chunk = { beginToken: FIRST.endToken, endToken: FIRST.endToken + 1024 };
  for (let tries = 1; ; tries++) {
    const session = await lane.open(PROMPT, [FIRST, chunk]);
    await worker.run(session, FIRST);
    if (await wakeStale(session, chunk)) break;
    await worker.release(session);
    assert.ok(tries < 10, 'no signal met the chunk');
  }
});

test('an idle session that goes on elsewhere is freed by a worker that nobody told', async () => {
  const session = await lane.open(PROMPT, CHUNKS);
  await worker.run(session, FIRST);
  assert.equal((await worker.status()).sessions, 1);
  await lane.change(session, { epoch: 2 });
  await poll(
    () => readdirSync(lane.storeDirectory),
    (folders) => folders.length === 0,
    20_000,
  );
  await assertNothingHeld(worker);
});

test('payloads that are damaged in Redis fail as JOB_CORRUPT, and other sessions go on', async () => {
  const busy = await lane.open(PROMPT, CHUNKS);
  const [torn, changed, fine] = await Promise.all(
    [FIRST, FIRST, FIRST].map(async (chunk) => lane.open(PROMPT, [chunk])),
  );
  assert.ok(torn !== undefined && changed !== undefined && fine !== undefined);
  await worker.run(busy, FIRST);
  const running = worker.run(busy, LONG);
  await lane.isRunning(busy, LONG.beginToken);
  const jobs = [];
  for (const session of [torn, changed, fine]) jobs.push(await worker.add(session, FIRST));
  const [tornJob, changedJob, fineJob] = jobs;
  assert.ok(tornJob !== undefined && changedJob !== undefined && fineJob !== undefined);
  const key = (id: string): string => worker.queue.toKey(id);
  await lane.command.hset(key(prefillJobId(tornJob.data)), 'data', '{"schemaVersion":3,"ki');
  const foreign = { ...changedJob.data, sessionId: fine.record.sessionId };
  await lane.command.hset(key(prefillJobId(changedJob.data)), 'data', JSON.stringify(foreign));
  await Promise.all([
    assert.rejects(worker.ended(tornJob), failsWith('JOB_CORRUPT')),
    assert.rejects(worker.ended(changedJob), failsWith('JOB_CORRUPT')),
    running,
  ]);
  assert.equal((await worker.ended(fineJob)).alreadyDone, false);
  assert.equal((await worker.run(torn, FIRST)).alreadyDone, false, 'rebuilt, it runs');
  await Promise.all([busy, torn, changed, fine].map(async (each) => worker.release(each)));
  await assertNothingHeld(worker);
});

test('a job that starts moves its queue on to its priority', async () => {
  const session = await lane.open(PROMPT, CHUNKS);
  await worker.run(session, FIRST, {}, 7);
  const next = await poll(
    async () => lane.store.fairShares.nextPriority('worker-one', 'newcomer', 0, false),
    (priority) => priority >= 7,
    5_000,
  );
  assert.equal(next, 7);
  await worker.release(session);
});

test('a reservation bounds what a session may prefill', async () => {
  const reservation = { storeId: 'store', bytes: 1, tokens: FIRST.endToken };
  const session = await lane.open(PROMPT, CHUNKS, { reservation });
  await worker.run(session, FIRST);
  await assert.rejects(worker.run(session, LONG), failsWith('RESERVATION_EXCEEDED'));
  await worker.release(session);
  await assertNothingHeld(worker);
});

test('SIGTERM lets the running chunk end, leaves the next job to its driver, and keeps segments', async () => {
  const session = await lane.open(PROMPT, CHUNKS);
  const waiting = await lane.open(PROMPT, CHUNKS);
  await worker.run(session, FIRST);
  const running = worker.run(session, LONG);
  await lane.isRunning(session, LONG.beginToken);
  const next = await worker.add(waiting, FIRST);
  worker.signal('SIGTERM');
  const signalledMs = performance.now();
  await poll(
    async () => (await lane.member('worker-one'))?.draining ?? false,
    (draining) => draining,
    5_000,
  );
  const announcedMs = performance.now() - signalledMs;
  assert.ok(announcedMs < 1_000, `draining was announced after ${announcedMs.toFixed(0)} ms`);
  assert.equal((await running).alreadyDone, false, 'finished within the grace');
  assert.equal((await worker.service.child.exited).code, 0, 'a clean end');
  assert.equal(await next.getState(), 'waiting');
  assert.equal(await lane.member('worker-one'), null);
  assert.equal(lane.files(session).length, 4, 'both chunks stay');
  assert.deepEqual(lane.files(waiting), []);
  await other.release(session);
  await assertNothingHeld(other);
});
