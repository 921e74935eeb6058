import assert from '../../support/assert.js';
import { setImmediate as tick } from 'node:timers/promises';
import { test } from 'node:test';
import type { TokenEvent } from '../../../services/domain/session-event.js';
import type { EventAppend } from '../../../services/domain/session-store.js';
import { EventPublisher, type TurnEvent } from '../../../services/decode/loop/event-publisher.js';
import { lostTokens } from '../../../services/decode/loop/turn-failure.js';

type Answer = number | 'stale-epoch' | 'ended' | 'duplicate' | 'unknown';

function token(sessionId: string, index: number): TurnEvent {
  const event: TokenEvent = { type: 'token', index, tokenId: 1, text: '', logprob: 0, rank: 1 };
  return { sessionId, epoch: 1, attempt: 3, turn: 0, event };
}

/** A stream whose round trips end, or fail, when the test says so. */
function makePublisher(maxWaitingEvents = 1000) {
  const trips: {
    events: readonly EventAppend[];
    end: (answers?: Answer[]) => void;
    fail: () => void;
  }[] = [];
  const refused: [string, string][] = [];
  let errors = 0;
  const publisher = new EventPublisher({
    events: {
      appendAll: (events) =>
        new Promise((resolve, reject) => {
          trips.push({
            events,
            end: (answers) => {
              resolve(answers ?? events.map(() => 1));
            },
            fail: () => {
              reject(new Error('Redis is away'));
            },
          });
        }),
    },
    onRefused: ({ sessionId }, refusal) => refused.push([sessionId, refusal]),
    onError: () => errors++,
    sleep: () => Promise.resolve(),
    maxWaitingEvents,
  });
  return { publisher, trips, refused, errors: () => errors };
}

const indices = (trip: { events: readonly EventAppend[] } | undefined): number[] =>
  (trip?.events ?? []).map(({ event }) => (event.type === 'token' ? event.index : -1));

test('what comes during a round trip goes together, in order, in the next one', async () => {
  const { publisher, trips } = makePublisher();
  publisher.push(token('a', 0));
  publisher.push(token('a', 1), token('a', 2));
  publisher.push(token('a', 3));
  assert.deepEqual(trips.map(indices), [[0]]);
  trips[0]?.end();
  await tick();
  assert.deepEqual(trips.map(indices), [[0], [1, 2, 3]]);
  trips[1]?.end();
  await publisher.drain();
  publisher.push(token('a', 4));
  assert.deepEqual(indices(trips[2]), [4]);
});

test('a failed round trip is repeated before anything later goes', async () => {
  const { publisher, trips, errors } = makePublisher();
  publisher.push(token('a', 0));
  publisher.push(token('a', 1));
  trips[0]?.fail();
  await tick();
  assert.deepEqual(trips.map(indices), [[0], [0]]);
  trips[1]?.end(['duplicate']);
  await tick();
  assert.deepEqual(indices(trips[2]), [1]);
  assert.equal(errors(), 1);
});

test('an event keeps its id when its round trip is repeated, and no other event has it', async () => {
  const { publisher, trips } = makePublisher();
  publisher.push(token('a', 0), token('a', 0));
  trips[0]?.fail();
  await tick();
  const ids = trips.map(({ events }) => events.map(({ appendId }) => appendId));
  assert.deepEqual(ids[1], ids[0]);
  assert.equal(new Set(ids[0]).size, 2);
  assert.deepEqual(
    trips[1]?.events.map(({ attempt, turn }) => [attempt, turn]),
    [
      [3, 0],
      [3, 0],
    ],
  );
  trips[1].end();
  await publisher.drain();
});

test('a refusal names its session; a duplicate is no refusal', async () => {
  const { publisher, trips, refused } = makePublisher();
  publisher.push(token('a', 0), token('b', 0), token('c', 0), token('d', 0));
  trips[0]?.end([7, 'duplicate', 'stale-epoch', 'ended']);
  await publisher.drain();
  assert.deepEqual(refused, [
    ['c', 'stale-epoch'],
    ['d', 'ended'],
  ]);
});

test('a turn that a stream refuses is told once a round trip', async () => {
  const { publisher, trips, refused } = makePublisher();
  publisher.push(token('a', 0), token('a', 1), token('b', 0));
  trips[0]?.end(['stale-epoch', 'stale-epoch', 'stale-epoch']);
  await publisher.drain();
  assert.deepEqual(refused, [
    ['a', 'stale-epoch'],
    ['b', 'stale-epoch'],
  ]);
});

test('a turn whose stream lost tokens is given back, at its own attempt; others are not', () => {
  const given = lostTokens(token('a', 3), 'stale-epoch');
  assert.ok(given?.event.type === 'interrupted');
  const { sessionId, epoch, attempt, turn } = given;
  assert.deepEqual([sessionId, epoch, attempt, turn], ['a', 1, 3, 0]);
  assert.equal(lostTokens(given, 'stale-epoch'), null, 'its refusal ends it');
  assert.equal(lostTokens(token('a', 3), 'ended'), null);
  assert.equal(lostTokens(token('a', 3), 'unknown'), null);
});

test('the loop waits for room when too many events wait, and close() lets it go', async () => {
  const { publisher, trips } = makePublisher(2);
  publisher.push(token('a', 0));
  publisher.push(token('a', 1), token('a', 2));
  let free = false;
  const room = publisher.room().then(() => (free = true));
  await tick();
  assert.equal(free, false);
  trips[0]?.end();
  await room;
  publisher.push(token('a', 3), token('a', 4));
  const again = publisher.room();
  publisher.close();
  await again;
});
