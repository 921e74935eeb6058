import assert from '../../../support/assert.js';
import { test } from 'node:test';
import type { SessionRecord } from '../../../../services/domain/session-record.js';
import {
  readDriverRequest,
  readEvent,
  readRecord,
} from '../../../../services/platform/session-store/schemas.js';
import { newRecord } from '../../../support/session-record.js';

const id = 'a'.repeat(32);

test('a record comes back as it was written, whatever may be null is', () => {
  const record: SessionRecord = {
    ...newRecord(id),
    state: 'kept',
    attempt: 3,
    decodeId: 'decode-1',
    turn: {
      number: 2,
      afterSequence: 40,
      beginToken: 900,
      endToken: 1_000,
      cachedTokens: 900,
      promptReran: true,
      sparseWork: null,
      admittedUnixMs: 1_764_000_000_000,
      prefilledUnixMs: 1_764_000_000_001,
    },
    sealedTokens: 512,
    historyTokens: 1_016,
    answers: [{ beginToken: 1_000, endToken: 1_016 }],
    dataLosses: 1,
    priority: 'high',
    keepUntilUnixMs: 1_764_000_600_000,
  };
  assert.deepEqual(readRecord(JSON.stringify(record)), record);
  assert.deepEqual(readRecord(JSON.stringify(newRecord(id))), newRecord(id));
});

test('every field of a record must be there', () => {
  for (const field of Object.keys(newRecord(id))) {
    const record: Record<string, unknown> = { ...newRecord(id) };
    record[field] = undefined;
    assert.throws(() => readRecord(JSON.stringify(record)), {
      code: 'DATA_LOSS',
      message: new RegExp(`\\(${field}: `),
    });
  }
});

const { turn } = newRecord(id);
const wrongFields: Record<string, unknown>[] = [
  { schemaVersion: 1 },
  { schemaVersion: 2 },
  { schemaVersion: 3 },
  { schemaVersion: '4' },
  { sessionId: '../etc' },
  { epoch: 0 },
  { attempt: -1 },
  { attempt: 0.5 },
  { state: 'lost' },
  { lane: [''] },
  { turn: 0 },
  { turn: { ...turn, beginToken: 5, endToken: 4 } },
  { turn: { ...turn, afterSequence: null } },
  { segments: [{ beginToken: 512, endToken: 0, stage: 0, bytes: 1 }] },
  { origins: [{ beginToken: 512, endToken: 0, fingerprint: 'f' }] },
  { origins: [{ beginToken: 0, endToken: 512 }] },
  { dataLosses: '0' },
  { priority: 'urgent' },
  { historyTokens: 2 ** 53 },
];
for (const wrong of wrongFields) {
  test(`no record has ${JSON.stringify(wrong)}`, () => {
    const json = JSON.stringify({ ...newRecord(id), ...wrong });
    assert.throws(() => readRecord(json), {
      code: 'DATA_LOSS',
      message: new RegExp(`another form \\(${Object.keys(wrong)[0] ?? ''}`),
    });
  });
}

test('an interrupted event says why, in a word of the list', () => {
  const event = { type: 'interrupted', code: 'WORKER_LOST', message: 'worker-1 is gone' } as const;
  assert.deepEqual(readEvent(JSON.stringify(event)), event);
  for (const wrong of [{ code: 'TIRED' }, { code: undefined }, { message: 1 }]) {
    const json = JSON.stringify({ ...event, ...wrong });
    assert.throws(() => readEvent(json), { code: 'DATA_LOSS' });
  }
});

test('a request between drivers is one of the known kinds, for a session', () => {
  const request = { kind: 'evict', sessionId: id } as const;
  assert.deepEqual(readDriverRequest(JSON.stringify({ ...request, extra: 1 })), request);
  for (const wrong of [{ kind: 'stop' }, { sessionId: `${id}0` }, { sessionId: null }]) {
    assert.throws(() => readDriverRequest(JSON.stringify({ ...request, ...wrong })), {
      code: 'DATA_LOSS',
    });
  }
});
