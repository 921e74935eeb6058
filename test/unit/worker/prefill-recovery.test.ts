import assert from '../../support/assert.js';
import { test } from 'node:test';
import { NativeError } from '../../../native/ts/index.js';
import { prefillJobId } from '../../../services/domain/prefill-job.js';
import { ServingError } from '../../../services/domain/serving-error.js';
import { job, makeWorld, refusedWith, SESSION, sessionRecord, settle } from './fake-prefill.js';

test('the first chunk of a later epoch removes what older ones left in the store', async () => {
  const { run, chunks, state } = makeWorld();
  state.record = sessionRecord({ epoch: 3 });
  const done = run(job({ epoch: 3 }));
  await settle();
  assert.deepEqual(state.removed, [[SESSION, 2]]);
  chunks[0]?.finish();
  await done;
  const next = run(job({ epoch: 3, beginToken: 1024, endToken: 2048 }));
  await settle();
  chunks[1]?.finish();
  await next;
  assert.equal(state.removed.length, 1, 'once');
});

test("a release removes files of a session that is not open here: its worker's life is over", async () => {
  const { run, sessions, state } = makeWorld();
  assert.equal(await sessions.release(SESSION, 4), 77);
  assert.deepEqual(state.removed, [[SESSION, 4]]);
  state.record = sessionRecord({ epoch: 4 });
  await assert.rejects(run(job({ epoch: 4 })), refusedWith('STALE_EPOCH'));
});

test("a session's origins reach the engine that adopts its segments", async () => {
  const { run, jobs, chunks, state } = makeWorld();
  const origins = [{ beginToken: 0, endToken: 512, fingerprint: 'e'.repeat(32) }];
  state.record = sessionRecord({ origins });
  const done = run(job({}));
  await settle();
  assert.deepEqual(state.keys[0]?.origins, origins);
  chunks[0]?.finish();
  await done;

  const fresh = makeWorld();
  fresh.state.record = sessionRecord({ origins });
  fresh.disk.set(`${SESSION} 1`, [{ beginToken: 0, endToken: 1024, bytes: 1 }]);
  await fresh.jobs.handOff(SESSION, 1);
  assert.deepEqual(fresh.state.keys[0]?.origins, origins);
  assert.deepEqual(await jobs.handOff(SESSION, 1), Uint8Array.of(1));
});

test('a chunk past the reserved tokens is refused, one up to them runs', async () => {
  const { run, chunks, state } = makeWorld();
  state.record = sessionRecord({ reservation: { storeId: 's', bytes: 1, tokens: 1024 } });
  await assert.rejects(run(job({ endToken: 1025 })), refusedWith('RESERVATION_EXCEEDED'));
  const done = run(job({}));
  await settle();
  chunks[0]?.finish();
  assert.equal((await done).alreadyDone, false);
});

test('a record of another engine is DATA_LOSS; a payload that is none is JOB_CORRUPT', async () => {
  const { run, jobs, state } = makeWorld();
  state.record = sessionRecord({ fingerprint: 'c'.repeat(32) });
  await assert.rejects(run(job({})), refusedWith('DATA_LOSS'));
  const id = prefillJobId(job({}));
  for (const data of [null, '', {}, { ...job({}), endToken: '1024' }]) {
    await assert.rejects(jobs.run({ id, data, addedUnixMs: 0 }), refusedWith('JOB_CORRUPT'));
  }
  assert.deepEqual(state.failedJobs[1], ['unreadable', 'JOB_CORRUPT']);
});

test('a full store fails the chunk alone: finished segments and the session stay', async () => {
  const { run, sessions, chunks, state } = makeWorld();
  const done = run(job({}));
  await settle();
  chunks[0]?.finish();
  await done;
  const next = job({ beginToken: 1024, endToken: 2048 });
  const failed = assert.rejects(run(next), (error: unknown) => {
    assert.ok(error instanceof ServingError && error.code === 'VALUE_STORE_FULL');
    assert.ok((error.details.retryAfterMs ?? 0) > 0 && error.details.quota !== undefined);
    return true;
  });
  await settle();
  chunks[1]?.fail(new NativeError('VALUE_STORE_FULL', 'the value store is full'));
  await failed;
  assert.equal(sessions.count, 1);
  assert.deepEqual(state.removed, []);
  const again = run(next);
  await settle();
  chunks[2]?.finish();
  assert.equal((await again).alreadyDone, false);
});

test('a chunk whose files another worker took is given up like any stale one', async () => {
  const { run, sessions, chunks, state } = makeWorld();
  const failed = assert.rejects(run(job({})), refusedWith('STALE_EPOCH'));
  await settle();
  state.record = sessionRecord({ epoch: 2 });
  chunks[0]?.fail(new NativeError('IO', 'cannot name segment: no such file'));
  await failed;
  await settle();
  assert.equal(sessions.count, 0);
  assert.deepEqual(state.removed, [[SESSION, 1]]);
});

for (const [answer, code] of [
  ['stale-epoch', 'STALE_EPOCH'],
  ['ended', 'SESSION_ENDED'],
  ['unknown', 'SESSION_ENDED'],
] as const) {
  test(`a stream that answers ${answer} to a finished chunk takes its segment with it`, async () => {
    const { run, sessions, chunks, state } = makeWorld();
    const failed = assert.rejects(run(job({})), refusedWith(code));
    await settle();
    state.appendAnswer = answer;
    chunks[0]?.finish();
    await failed;
    await settle();
    assert.equal(sessions.count, 0);
    assert.equal(state.closed, 1);
    assert.deepEqual(state.removed, [[SESSION, 1]]);
    await assert.rejects(run(job({})), refusedWith('STALE_EPOCH'));
  });
}
