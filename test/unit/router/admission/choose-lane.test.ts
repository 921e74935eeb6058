import assert from '../../../support/assert.js';
import { describe, test } from 'node:test';
import type { FleetMember } from '../../../../services/domain/fleet.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import {
  decodesFor,
  type LaneNeeds,
  type LaneWishes,
  type Load,
  rankLanes,
  sessionBytes,
} from '../../../../services/router/admission/choose-lane.js';
import { fakeMember } from '../drive/fake-members.js';

const MODEL = 'a'.repeat(32);
/** Of a dense session. */
const NEEDS: LaneNeeds = { model: 'needle', modelFingerprint: MODEL, patternsSha256: '' };
const IDLE: Load = { reservedBytes: new Map(), placedSessions: new Map() };

function pair(store: string, change: Partial<FleetMember> = {}): FleetMember[] {
  return [
    fakeMember('worker', { memberId: `worker-${store}`, storeId: store, ...change }),
    fakeMember('decode', { memberId: `decode-${store}`, storeId: store }),
  ];
}

function ranked(
  members: readonly FleetMember[],
  load: Load = IDLE,
  wishes: LaneWishes = {},
): string[] {
  return rankLanes(NEEDS, members, load, wishes).map(
    ({ worker, decode }) => `${worker.memberId} ${decode.memberId}`,
  );
}

describe('lanes', () => {
  test('pair a worker with a decode of its own host', () => {
    assert.deepEqual(ranked([...pair('a'), ...pair('b')]).sort(), [
      'worker-a decode-a',
      'worker-b decode-b',
    ]);
  });

  test('the emptier store comes first, by share of its capacity', () => {
    const members = [
      ...pair('a', { storeCapacityBytes: 1_000 }),
      ...pair('b', { storeCapacityBytes: 10_000 }),
    ];
    const load = {
      ...IDLE,
      reservedBytes: new Map([
        ['a', 200],
        ['b', 1_000],
      ]),
    };
    assert.deepEqual(ranked(members, load), ['worker-b decode-b', 'worker-a decode-a']);
  });

  test('the less busy worker and decode of a store come first, as this router has placed sessions', () => {
    const members = [
      ...pair('a'),
      fakeMember('worker', { memberId: 'worker-c', storeId: 'a' }),
      fakeMember('decode', { memberId: 'decode-c', storeId: 'a' }),
    ];
    const load = {
      ...IDLE,
      placedSessions: new Map([
        ['worker-a', 2],
        ['decode-a', 1],
      ]),
    };
    assert.deepEqual(ranked(members, load), ['worker-c decode-c', 'worker-a decode-c']);
  });

  test('pass over decodes that are full, by their heartbeat or by what this router has placed', () => {
    const members = [
      ...pair('a'),
      fakeMember('decode', {
        memberId: 'decode-b',
        storeId: 'a',
        maxSessions: 2,
        activeSessions: 2,
      }),
      fakeMember('decode', { memberId: 'decode-c', storeId: 'a', maxSessions: 1 }),
    ];
    const placedSessions = new Map([
      ['decode-a', 5],
      ['decode-c', 1],
    ]);
    assert.deepEqual(ranked(members, { ...IDLE, placedSessions }), ['worker-a decode-a']);
  });

  test('with full decodes only are refused, with the time to ask again', () => {
    const [worker, decode] = pair('a');
    assert.ok(worker !== undefined && decode !== undefined);
    assert.throws(
      () => ranked([worker, { ...decode, maxSessions: 4, activeSessions: 4 }]),
      (error) =>
        error instanceof ServingError &&
        error.code === 'TOO_MANY_SESSIONS' &&
        (error.details.retryAfterMs ?? 0) > 0 &&
        error.details.quota !== undefined,
    );
  });

  const absent: { name: string; members: FleetMember[]; code: string }[] = [
    { name: 'nobody', members: [], code: 'NO_WORKER' },
    { name: 'only draining workers', members: pair('a', { draining: true }), code: 'NO_WORKER' },
    {
      name: 'only workers of other weights',
      members: pair('a', { modelFingerprint: 'c'.repeat(32) }),
      code: 'NO_WORKER',
    },
    {
      name: 'only workers of part of the layers',
      members: pair('a', { stages: 2 }),
      code: 'NO_WORKER',
    },
    {
      name: 'a decode on another host',
      members: [...pair('a').slice(0, 1), ...pair('b').slice(1)],
      code: 'NO_DECODE',
    },
  ];
  for (const { name, members, code } of absent) {
    test(`with ${name} there is ${code}, and when to ask again`, () => {
      assert.throws(
        () => ranked(members),
        (error) =>
          error instanceof ServingError &&
          error.code === code &&
          (error.details.retryAfterMs ?? 0) > 0,
      );
    });
  }

  test('of the store that is wished for come first, however full', () => {
    const members = [...pair('a'), ...pair('b')];
    const load = { ...IDLE, reservedBytes: new Map([['b', 1_000_000_000]]) };
    assert.deepEqual(ranked(members, load, { preferStoreId: 'b' }), [
      'worker-b decode-b',
      'worker-a decode-a',
    ]);
  });

  test('avoid the members that are named', () => {
    const members = [
      ...pair('a'),
      fakeMember('worker', { memberId: 'worker-c', storeId: 'a' }),
      fakeMember('decode', { memberId: 'decode-c', storeId: 'a' }),
    ];
    const except = new Set(['worker-a', 'decode-c']);
    assert.deepEqual(ranked(members, IDLE, { except, preferStoreId: 'a' }), ['worker-c decode-a']);
  });

  const gone: { name: string; except: string[]; code: string }[] = [
    { name: 'worker', except: ['worker-a'], code: 'NO_WORKER' },
    { name: 'decode', except: ['decode-a'], code: 'NO_DECODE' },
  ];
  for (const { name, except, code } of gone) {
    test(`without the only ${name} there is ${code}`, () => {
      assert.throws(
        () => ranked(pair('a'), IDLE, { except: new Set(except) }),
        (error) => error instanceof ServingError && error.code === code,
      );
    });
  }

  const patterned = (store: string, digit: string): FleetMember[] =>
    pair(store, { patternsSha256: digit.repeat(64) });

  test('of a session that needs patterns are those whose worker has read them', () => {
    const members = [...patterned('a', '1'), ...patterned('b', '2'), ...patterned('c', '2')];
    const needs = { ...NEEDS, patternsSha256: '2'.repeat(64) };
    const workers = rankLanes(needs, members, IDLE).map(({ worker }) => worker.memberId);
    assert.deepEqual(workers.sort(), ['worker-b', 'worker-c']);
    assert.equal(ranked(members).length, 3, 'one that needs none takes any');
  });

  test('whose workers have read other patterns only are refused, with what to change', () => {
    const members = [...patterned('a', '1'), ...patterned('b', '2'), ...patterned('c', '2')];
    const needs = { ...NEEDS, patternsSha256: '3'.repeat(64) };
    assert.throws(() => rankLanes(needs, members, IDLE), {
      code: 'NO_WORKER',
      message:
        /pattern files .* differ: .* patterns 3{12} of model needle, .* have 1{12}, 2{12}; .*WORKER_PATTERNS_FILE/,
    });
  });

  test('a session takes whole pages of 512 tokens', () => {
    assert.equal(sessionBytes(1, 3), 512 * 3);
    assert.equal(sessionBytes(512, 3), 512 * 3);
    assert.equal(sessionBytes(513, 3), 1_024 * 3);
  });
});

describe('decodes for a session that has segments', () => {
  const near = { model: 'needle', modelFingerprint: MODEL, storeId: 'a' };
  const decode = (memberId: string, change: Partial<FleetMember> = {}): FleetMember =>
    fakeMember('decode', { memberId, storeId: 'a', ...change });

  test('are those of its store and its weights that take sessions, least busy first', () => {
    const members = [
      ...pair('a'),
      ...pair('b'),
      decode('busy', { activeSessions: 3 }),
      decode('full', { activeSessions: 4, maxSessions: 4 }),
      decode('leaving', { draining: true }),
      decode('other-weights', { modelFingerprint: 'c'.repeat(32) }),
      decode('other-model', { model: 'stories' }),
      decode('dead'),
    ];
    const load = { ...IDLE, placedSessions: new Map([['decode-a', 1]]) };
    const ids = decodesFor(near, members, load, new Set(['dead'])).map(({ memberId }) => memberId);
    assert.deepEqual(ids, ['decode-a', 'busy']);
  });

  test('are none where the only one is gone', () => {
    assert.deepEqual(decodesFor(near, pair('a'), IDLE, new Set(['decode-a'])), []);
  });
});
