import assert from '../../support/assert.js';
import { test } from 'node:test';
import { ServingError } from '../../../services/domain/serving-error.js';
import type { SessionRecord } from '../../../services/domain/session-record.js';
import { overDecodes } from '../../../services/decode/sessions/over-decodes.js';
import { OverSessions } from '../../../services/engine-host/free-over-sessions.js';
import { newRecord } from '../../support/session-record.js';
import { A, makeWorld, start } from './sessions-world.js';

const FENCE = { epoch: 2, attempt: 2 };

/** A decode that holds one kept session of FENCE; `load` is what Redis says of it. */
async function holding(load: () => SessionRecord | null) {
  const { sessions, left, started } = makeWorld();
  const session = await started(start(FENCE));
  session.turn = null;
  const errors: unknown[] = [];
  const records = {
    load: () =>
      new Promise<SessionRecord | null>((done) => {
        done(load());
      }),
  };
  const onError = (error: unknown): number => errors.push(error);
  const over = new OverSessions(overDecodes(sessions, { records, onError }));
  return { over, sessions, session, left, started, errors };
}

function record(more: Partial<SessionRecord>): SessionRecord {
  return { ...newRecord(A), state: 'kept', ...FENCE, ...more };
}

const cases: { name: string; record: SessionRecord | null; freed: boolean }[] = [
  { name: 'that Redis does not know', record: null, freed: true },
  { name: 'that has ended', record: record({ state: 'failed' }), freed: true },
  { name: 'that another attempt has', record: record({ attempt: 3 }), freed: true },
  { name: 'that has a later plan', record: record({ epoch: 3 }), freed: true },
  { name: 'that is kept here', record: record({}), freed: false },
  { name: 'that is decoded here', record: record({ state: 'decoding' }), freed: false },
];

for (const { name, record: found, freed } of cases) {
  test(`a session ${name} is ${freed ? 'freed at the second look' : 'left alone'}`, async () => {
    const { over, sessions, session, left, errors } = await holding(() => found);
    await over.check();
    assert.equal(sessions.count, 1, 'once may be chance');
    await over.check();
    assert.equal(sessions.count, freed ? 0 : 1);
    assert.deepEqual(left, freed ? [session] : []);
    assert.deepEqual(errors, []);
  });
}

test('an attempt that takes the place of an old one is not freed with it', async () => {
  let found = record({ attempt: 3 });
  let meanwhile: () => Promise<unknown> = () => Promise.resolve();
  const { sessions, session, left, started } = await holding(() => found);
  const load = async (): Promise<SessionRecord> => {
    const answer = found;
    await meanwhile();
    return answer;
  };
  const onError = (error: unknown): void => assert.fail(String(error));
  const over = new OverSessions(overDecodes(sessions, { records: { load }, onError }));
  await over.check();
  meanwhile = () => started(start({ ...FENCE, attempt: 3 }));
  await over.check();
  assert.deepEqual(left, [session], 'the start put the old one out, and the check nothing');
  found = record({ attempt: 4 });
  meanwhile = () => Promise.resolve();
  await over.check();
  assert.equal(sessions.count, 1, 'the new one has its own two looks');
  await over.check();
  assert.equal(sessions.count, 0);
});

test('doubt keeps a session, and begins the count again', async () => {
  const answers = [null, new ServingError('REDIS_UNAVAILABLE', 'away'), null];
  const { over, sessions, errors } = await holding(() => {
    const answer = answers.shift() ?? null;
    if (answer !== null) throw answer;
    return null;
  });
  for (let looks = 1; looks <= 3; looks++) await over.check();
  assert.equal(sessions.count, 1);
  await over.check();
  assert.equal(sessions.count, 0);
  assert.deepEqual(errors, []);
});
