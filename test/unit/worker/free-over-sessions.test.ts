import assert from '../../support/assert.js';
import { test } from 'node:test';
import { ServingError } from '../../../services/domain/serving-error.js';
import type { SessionRecord } from '../../../services/domain/session-record.js';
import { OverSessions } from '../../../services/engine-host/free-over-sessions.js';
import { overPrefills } from '../../../services/worker/prefill/over-prefills.js';
import { makeWorld, SESSION, sessionRecord } from './fake-prefill.js';

const KEY = { sessionId: SESSION, epoch: 2, stage: 0, fingerprint: '2'.repeat(32), origins: [] };

/** A worker that holds one session of epoch 2; `load` is what Redis says of it. */
async function holding(load: () => SessionRecord | null) {
  const { sessions, state } = makeWorld();
  await sessions.open(KEY, null);
  state.removed.length = 0; // of the older epoch, at the open
  const errors: unknown[] = [];
  const records = {
    load: () =>
      new Promise<SessionRecord | null>((done) => {
        done(load());
      }),
  };
  const onError = (error: unknown): number => errors.push(error);
  const over = new OverSessions(overPrefills(sessions, { records, onError }));
  return { over, sessions, removed: state.removed, errors };
}

const cases: { name: string; record: SessionRecord | null; freed: boolean }[] = [
  { name: 'that Redis does not know', record: null, freed: true },
  { name: 'that has ended', record: sessionRecord({ epoch: 2, state: 'cancelled' }), freed: true },
  { name: 'that has a later plan', record: sessionRecord({ epoch: 3 }), freed: true },
  { name: 'that is kept', record: sessionRecord({ epoch: 2, state: 'kept' }), freed: false },
  { name: 'that is decoded', record: sessionRecord({ epoch: 2, state: 'decoding' }), freed: false },
];

for (const { name, record, freed } of cases) {
  test(`a session ${name} is ${freed ? 'freed at the second look' : 'left alone'}`, async () => {
    const { over, sessions, removed, errors } = await holding(() => record);
    await over.check();
    assert.equal(sessions.count, 1, 'a new plan has the time to link its segments');
    await over.check();
    assert.equal(sessions.count, freed ? 0 : 1);
    assert.deepEqual(removed, freed ? [[SESSION, 2]] : []);
    assert.deepEqual(errors, []);
  });
}

test('doubt keeps a session, and begins the count again', async () => {
  const answers = [
    null,
    new ServingError('REDIS_UNAVAILABLE', 'away'),
    null,
    new ServingError('DATA_LOSS', 'unreadable'),
    null,
    null,
  ];
  const { over, sessions, errors } = await holding(() => {
    const answer = answers.shift() ?? null;
    if (answer !== null) throw answer;
    return null;
  });
  for (let looks = 1; looks <= 5; looks++) await over.check();
  assert.equal(sessions.count, 1);
  assert.equal(errors.length, 1, 'an unreadable record is reported');
  await over.check();
  assert.equal(sessions.count, 0);
});
