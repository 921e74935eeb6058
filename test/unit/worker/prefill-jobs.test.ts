import assert from '../../support/assert.js';
import { test } from 'node:test';
import { DIAGONAL_KEYS } from '../../../services/domain/prefill-cost.js';
import type { ErrorCode } from '../../../services/domain/serving-error.js';
import type { ProgressEvent } from '../../../services/domain/session-event.js';
import {
  job,
  makeWorld,
  MODEL,
  refusedWith,
  SESSION,
  sessionRecord,
  settle,
} from './fake-prefill.js';

const refusals: { name: string; with: Parameters<typeof job>[0]; code: ErrorCode }[] = [
  { name: 'another stage', with: { stage: 1 }, code: 'JOB_CORRUPT' },
  { name: "another model's job", with: { modelFingerprint: 'c'.repeat(32) }, code: 'JOB_CORRUPT' },
  { name: 'another fingerprint', with: { fingerprint: 'c'.repeat(32) }, code: 'JOB_CORRUPT' },
  { name: 'a passed deadline', with: { deadlineUnixMs: 999_999 }, code: 'DEADLINE_EXCEEDED' },
  { name: 'an epoch that the record has not', with: { epoch: 2 }, code: 'STALE_EPOCH' },
  { name: 'a chunk after a gap', with: { beginToken: 1024, endToken: 2048 }, code: 'WORKER_LOST' },
];

for (const refusal of refusals) {
  test(`${refusal.name} is refused before any work`, async () => {
    const { run, chunks, state } = makeWorld();
    await assert.rejects(run(job(refusal.with), 0), refusedWith(refusal.code));
    assert.deepEqual(state.failedJobs, [['prefill', refusal.code]], 'and counted');
    assert.equal(chunks.length, 0);
  });
}

test('a session without a record, or one that ended, is refused', async () => {
  const { run, state } = makeWorld();
  state.record = null;
  await assert.rejects(run(job({})), refusedWith('SESSION_NOT_FOUND'));
  state.record = sessionRecord({ state: 'cancelled' });
  await assert.rejects(run(job({})), refusedWith('SESSION_ENDED'));
  assert.equal(state.opened, 0);
});

test('a running chunk is joined and a finished one answers at once', async () => {
  const { run, chunks } = makeWorld();
  const first = run(job({}));
  const second = run(job({}));
  await settle();
  assert.equal(chunks.length, 1);
  chunks[0]?.finish();
  const want = { beginToken: 0, endToken: 1024, bytes: 10_240, engineMicros: 2000, sparse: null };
  assert.deepEqual(await first, { ...want, alreadyDone: false, sealed: false });
  assert.deepEqual(await second, { ...want, alreadyDone: false, sealed: false });
  const again = await run(job({}));
  assert.deepEqual(again, { ...want, engineMicros: 0, alreadyDone: true, sealed: false });
  assert.equal(chunks.length, 1);
  await assert.rejects(run(job({ endToken: 512 })), refusedWith('JOB_CORRUPT'));
});

test('a restarted worker adopts what is on disk and goes on after it', async () => {
  const before = makeWorld();
  const done = before.run(job({}));
  await settle();
  before.chunks[0]?.finish();
  await done;
  const after = makeWorld();
  for (const [key, segments] of before.disk) after.disk.set(key, segments);
  assert.equal((await after.run(job({}))).alreadyDone, true);
  const next = after.run(job({ beginToken: 1024, endToken: 1500 }));
  await settle();
  after.chunks[0]?.finish();
  assert.equal((await next).alreadyDone, false);
});

test('progress is told at the end of a chunk, with log-probabilities and time left', async () => {
  const { run, chunks, state } = makeWorld();
  state.record = sessionRecord({ receivedTokens: 5120 });
  const promptLogprobs = [{ beginToken: 5, endToken: 7 }];
  const done = run(job({ totalTokens: 5120, promptLogprobs }), state.nowUnixMs);
  await settle();
  assert.deepEqual([...(chunks[0]?.request.logprobPositions ?? [])], [5, 6]);
  chunks[0]?.finish();
  await done;
  const [event] = state.events as ProgressEvent[];
  assert.equal(event?.processedTokens, 1024);
  assert.equal(event.totalTokens, 5120);
  assert.deepEqual(event.promptLogprobs, [
    { position: 5, tokenId: 5, logprob: -0.5, rank: 4 },
    { position: 6, tokenId: 6, logprob: -0.5, rank: 4 },
  ]);
  // 1.5 ms linear work in 1,024 tokens, 0.5 ms attention; four times the tokens are left.
  const attention = (tokens: number): number =>
    (tokens * (tokens + 1)) / 2 + DIAGONAL_KEYS * tokens;
  const wantMs = 1.5 * 4 + 0.5 * (attention(5120) / attention(1024) - 1);
  assert.equal(event.etaMs, Math.round(wantMs));
});

test('many log-probabilities come in several events of at most 2,048', async () => {
  const { run, chunks, state } = makeWorld();
  const promptLogprobs = [{ beginToken: 1, endToken: 5121 }];
  const done = run(job({ endToken: 5120, promptLogprobs, nextTokenId: 9 }));
  await settle();
  chunks[0]?.finish();
  await done;
  const sizes = state.events.map((e) => (e.type === 'progress' ? e.promptLogprobs.length : -1));
  assert.deepEqual(sizes, [2048, 2048, 1024]);
  const last = (state.events.at(-1) as ProgressEvent).promptLogprobs.at(-1);
  assert.deepEqual(last, { position: 5120, tokenId: 9, logprob: -0.5, rank: 4 });
});

test('log-probabilities survive a Redis that stays away: the next run of the job tells them', async () => {
  const { run, chunks, state } = makeWorld();
  const withLogprobs = job({ promptLogprobs: [{ beginToken: 1, endToken: 2 }] });
  const done = run(withLogprobs);
  await settle();
  state.redisFailures = Infinity;
  chunks[0]?.finish();
  await assert.rejects(done, refusedWith('REDIS_UNAVAILABLE'));
  assert.ok(state.pausedMs.reduce((sum, ms) => sum + ms, 0) > 50_000, 'after a long wait');
  state.redisFailures = 0;
  assert.equal((await run(withLogprobs)).alreadyDone, true);
  assert.equal((state.events.at(-1) as ProgressEvent).promptLogprobs.length, 1);
});

test('a short gap of Redis costs a chunk nothing, wherever it falls', async () => {
  const { run, chunks, state } = makeWorld();
  state.redisFailures = 2;
  const done = run(job({}));
  await settle();
  assert.equal(chunks.length, 1, 'the record came at the third try, and the token ids');
  state.redisFailures = 7;
  chunks[0]?.finish();
  assert.equal((await done).alreadyDone, false);
  assert.deepEqual(state.pausedMs, [100, 200, 100, 200, 400, 800, 1000, 1000, 1000]);
  const ids = state.appendOptions.map((options) => options?.appendId);
  assert.equal(ids.length, 8);
  assert.equal(new Set(ids).size, 1, 'all tries are one append');
});

test('nobody waits for Redis in a worker that shuts down', async () => {
  const { run, sessions, chunks, state } = makeWorld();
  const done = run(job({}));
  await settle();
  state.redisFailures = Infinity;
  chunks[0]?.finish();
  const failed = assert.rejects(done, refusedWith('REDIS_UNAVAILABLE'));
  await sessions.closeAll();
  await failed;
  assert.ok(state.pausedMs.length < 5);
});

test("a chunk's last events belong to the record's turn and keep their ids when it runs again", async () => {
  const { run, chunks, state } = makeWorld();
  const { turn } = sessionRecord({});
  state.record = sessionRecord({ turn: { ...turn, number: 2 } });
  const promptLogprobs = [{ beginToken: 1, endToken: 3001 }];
  const work = job({ endToken: 3584, promptLogprobs, nextTokenId: 9, cachedTokens: 512 });
  const done = run(work);
  await settle();
  chunks[0]?.finish();
  await done;
  await run(work);
  const [one, two, again] = state.appendOptions;
  assert.ok(one?.appendId !== undefined && two?.appendId !== undefined);
  assert.notEqual(one.appendId, two.appendId);
  assert.equal(again?.appendId, one.appendId);
  assert.ok(state.appendOptions.every((options) => options?.turn === 2));
  assert.ok(state.events.every((event) => event.type === 'progress' && event.cachedTokens === 512));
});

test('a finished chunk that is asked for again after its turn leaves the session alone', async () => {
  const { run, sessions, chunks, state } = makeWorld();
  const done = run(job({}));
  await settle();
  chunks[0]?.finish();
  await done;
  state.appendAnswer = 'ended'; // the turn, not the session: it is kept
  assert.equal((await run(job({}))).alreadyDone, true);
  await settle();
  assert.equal(sessions.count, 1);
  assert.deepEqual(state.removed, []);
});

test('updates while a chunk runs are coalesced to five a second', async () => {
  const { run, chunks, state } = makeWorld();
  const done = run(job({}));
  await settle();
  for (let percent = 1; percent <= 100; percent++) {
    state.nowUnixMs += 10;
    chunks[0]?.progress(percent / 101);
    await settle();
  }
  assert.equal(state.events.length, 5);
  const processed = state.events.map((e) => (e.type === 'progress' ? e.processedTokens : -1));
  assert.deepEqual(
    processed,
    [...processed].sort((a, b) => a - b),
  );
  chunks[0]?.finish();
  await done;
  assert.equal(state.events.length, 6);
});

test('release interrupts the running chunk, frees, and refuses the epoch from then on', async () => {
  const { run, sessions, state } = makeWorld();
  const running = run(job({}));
  const failed = assert.rejects(running, refusedWith('CANCELLED'));
  await settle();
  assert.equal(await sessions.release(SESSION, 1), 77);
  await failed;
  assert.equal(state.closed, 1);
  assert.equal(sessions.count, 0);
  assert.deepEqual(state.removed, [[SESSION, 1]]);
  assert.equal(state.cancelledMs.length, 1);
  await assert.rejects(run(job({})), refusedWith('STALE_EPOCH'));
  assert.equal(await sessions.release(SESSION, 1), 77, 'idempotent');
  state.record = sessionRecord({ epoch: 2 });
  const next = run(job({ epoch: 2 }));
  await settle();
  assert.equal(sessions.count, 1, 'a later epoch is welcome');
  await sessions.release(SESSION, 1);
  assert.equal(sessions.count, 1, 'and an older release leaves it alone');
  await Promise.allSettled([sessions.release(SESSION, 2), next]);
});

test('a job of a later epoch releases the older one first', async () => {
  const { run, sessions, chunks, state } = makeWorld();
  const done = run(job({}));
  await settle();
  chunks[0]?.finish();
  await done;
  state.record = sessionRecord({ epoch: 2 });
  const next = run(job({ epoch: 2 }));
  await settle();
  assert.equal(state.closed, 1);
  assert.deepEqual(state.removed, [[SESSION, 1]]);
  assert.equal(sessions.find(SESSION)?.epoch, 2);
  chunks[1]?.finish();
  await next;
});

test('a stream that takes no more ends the work and frees the memory', async () => {
  const { run, sessions, chunks, state } = makeWorld();
  const failed = assert.rejects(run(job({})), refusedWith('SESSION_ENDED'));
  await settle();
  state.appendAnswer = 'ended';
  state.nowUnixMs += 1000;
  chunks[0]?.progress(0.5);
  await failed;
  await settle();
  assert.equal(sessions.count, 0);
  assert.deepEqual(state.removed, [[SESSION, 1]]);
});

test('shutdown interrupts with SHUTTING_DOWN and leaves the files', async () => {
  const { run, sessions, state } = makeWorld();
  const failed = assert.rejects(run(job({})), refusedWith('SHUTTING_DOWN'));
  await settle();
  await sessions.closeAll();
  await failed;
  assert.equal(state.closed, 1);
  assert.deepEqual(state.removed, []);
  await assert.rejects(run(job({})), refusedWith('SHUTTING_DOWN'));
});

test('a seal needs the whole prompt, runs once, and is made on demand after a restart', async () => {
  const { jobs, run, chunks, disk, state } = makeWorld();
  const seal = job({ kind: 'seal', beginToken: 1024, endToken: 1024, totalTokens: 1024 });
  await assert.rejects(run(seal), refusedWith('WORKER_LOST'));
  const done = run(job({}));
  await settle();
  chunks[0]?.finish();
  await done;
  const sealed = await run(seal);
  assert.deepEqual([sealed.beginToken, sealed.bytes, sealed.alreadyDone], [1024, 1, false]);
  assert.equal((await run(seal)).alreadyDone, true);
  assert.deepEqual(await jobs.handOff(SESSION, 1), Uint8Array.of(1));
  assert.equal(state.sealed, 1);

  const restarted = makeWorld();
  for (const [key, segments] of disk) restarted.disk.set(key, segments);
  assert.deepEqual(await restarted.jobs.handOff(SESSION, 1), Uint8Array.of(1));
  const fresh = makeWorld();
  fresh.state.record = sessionRecord({ uploadClosed: false });
  await assert.rejects(fresh.jobs.handOff(SESSION, 1), refusedWith('SESSION_BUSY'));
  fresh.state.record = sessionRecord({ epoch: 2, modelFingerprint: MODEL });
  await assert.rejects(fresh.jobs.handOff(SESSION, 1), refusedWith('STALE_EPOCH'));
});
