import assert from '../../support/assert.js';
import { test } from 'node:test';
import type { SessionEvent } from '../../../services/domain/session-event.js';
import type { TurnHistory } from '../../../services/decode/loop/turn.js';
import { begun, EOS, makeLoop, NO_HISTORY, PAGE_BYTES, resumed, turn } from './fake-loop.js';

type TurnOptions = Parameters<typeof turn>[0];

const answered = (ids: readonly number[], more: Partial<TurnHistory> = {}): TurnHistory => ({
  ...NO_HISTORY,
  tokenIds: Uint32Array.from(ids),
  answeredTokens: ids.length,
  ...more,
});

/** Runs a session to the end of its turn. */
async function eventsOf(options: TurnOptions, history: TurnHistory): Promise<SessionEvent[]> {
  const world = makeLoop();
  const { session, end } = await resumed('a', turn(options), history);
  world.loop.join(session, end);
  await world.settle();
  for (let step = 0; world.closed.length === 0; step++) {
    assert.ok(step < 100, 'the turn ends');
    (await world.step()).end();
    await world.settle();
  }
  await world.stop();
  return world.events('a');
}

const tokensOf = (events: readonly SessionEvent[]) =>
  events.flatMap((event) => (event.type === 'token' ? [event] : []));

/** Ids of the letters. */
const letterIds = (text: string): number[] => Array.from(text, (letter) => letter.charCodeAt(0));

const answers: { name: string; options: TurnOptions }[] = [
  { name: 'that max_new_tokens ends', options: { maxNewTokens: 9 } },
  {
    name: 'that an end-of-sequence id ends',
    options: { forcedTokenIds: [...letterIds('words'), EOS] },
  },
  {
    name: 'that a stop text of several tokens ends',
    options: { forcedTokenIds: letterIds('one. stop it'), stopTexts: ['stop'] },
  },
  {
    name: 'with the beginning of a stop text at its end',
    options: { forcedTokenIds: letterIds('st st'), stopTexts: ['stop'], maxNewTokens: 5 },
  },
];

for (const { name, options } of answers) {
  test(`an answer ${name} is the same wherever it was cut`, async () => {
    const whole = await eventsOf(options, NO_HISTORY);
    const tokens = tokensOf(whole);
    assert.ok(tokens.length >= 5);
    for (let cut = 1; cut <= tokens.length; cut++) {
      const history = answered(tokens.slice(0, cut).map(({ tokenId }) => tokenId));
      const rest = await eventsOf(options, history);
      const [last, lastOfRest] = [whole.at(-1), rest.at(-1)];
      assert.deepEqual(rest.slice(0, -1), tokens.slice(cut), `cut after ${cut}`);
      assert.ok(last?.type === 'finished' && lastOfRest?.type === 'finished');
      assert.deepEqual(lastOfRest, last, 'the same report too');
    }
  });
}

test('answered tokens run again as few rows, without sampling, and nobody hears of them', async () => {
  const world = makeLoop();
  const { session } = await resumed('a', turn({}), answered(letterIds('abcdef')));
  world.loop.join(session);
  const first = await world.step();
  assert.deepEqual([...(first.items[0]?.tokenIds ?? [])], letterIds('abcd'));
  assert.equal(first.items[0]?.sample, false);
  first.end();
  const second = await world.step();
  assert.deepEqual([...(second.items[0]?.tokenIds ?? [])], letterIds('ef'));
  assert.equal(second.items[0]?.sample, true);
  assert.equal(second.items[0].tokenIndex, 6, 'randomness goes on where it was');
  assert.equal(world.log.length, 0);
  second.end();
  await world.settle();
  const [event] = world.log;
  assert.ok(event?.event.type === 'token' && event.event.index === 6);
  assert.deepEqual([event.attempt, event.turn], [1, 0]);
  await world.stop();
});

test('others decode on while a session catches up', async () => {
  const world = makeLoop();
  const other = await begun('b', turn({}));
  world.loop.join(other);
  (await world.step()).end();
  const { session } = await resumed('a', turn({}), answered(letterIds('abcdefgh')));
  world.loop.join(session);
  (await world.step()).end();
  const both = await world.step();
  assert.deepEqual(
    both.items.map(({ tokenIds }) => tokenIds.length),
    [1, 4],
  );
  await world.stop();
});

test('a turn whose prompt had not run is run again, with its progress and log-probabilities', async () => {
  const world = makeLoop();
  const prompt = Array.from({ length: 100 }, (_, index) => 1000 + index);
  const request = turn({
    turn: 1,
    maxNewTokens: 1,
    promptLogprobs: [{ beginToken: 700, endToken: 710 }],
  });
  const history: TurnHistory = {
    tokenIds: Uint32Array.from([...letterIds('abcdefg'), ...prompt]),
    answeredTokens: 0,
    turnBeginToken: 707,
    answers: [{ beginToken: 700, endToken: 707 }],
  };
  const { session, end } = await resumed('a', request, history);
  world.loop.join(session, end);
  const sizes: number[] = [];
  while (world.closed.length === 0) {
    const step = await world.step();
    sizes.push(step.items[0]?.tokenIds.length ?? 0);
    step.end();
    await world.settle();
  }
  assert.deepEqual(sizes, [4, 2, 101], 'the last answered token runs with the turn, as it did');
  const events = world.events('a');
  assert.deepEqual(
    events.map(({ type }) => type),
    ['progress', 'token', 'finished'],
  );
  assert.ok(world.log.every((event) => event.turn === 1));
  const logprobs = events.flatMap((e) => (e.type === 'progress' ? e.promptLogprobs : []));
  assert.deepEqual(
    logprobs.map(({ position, tokenId }) => [position, tokenId]),
    [
      [707, 1000],
      [708, 1001],
      [709, 1002],
    ],
    'of the turn, not of the answer before it',
  );
  const processed = events.flatMap((e) => (e.type === 'progress' ? [e.processedTokens] : []));
  assert.deepEqual(processed, [807]);
  await world.stop();
});

test('a turn that has begun to answer tells its progress no more', async () => {
  const world = makeLoop();
  const request = turn({ turn: 1, promptLogprobs: [{ beginToken: 0, endToken: 10_000 }] });
  const tokenIds = Uint32Array.from([...letterIds('ab'), 1000, 1001, 1002, ...letterIds('xy')]);
  const { session } = await resumed('a', request, {
    tokenIds,
    answeredTokens: 2,
    turnBeginToken: 702,
    answers: [],
  });
  world.loop.join(session);
  for (let step = 0; step < 3; step++) {
    const { items, end } = await world.step();
    assert.equal(items[0]?.logprobTargets, null);
    end();
  }
  await world.settle();
  assert.deepEqual(
    world.events('a').map(({ type }) => type),
    ['token', 'token'],
  );
  await world.stop();
});

test('a complete answer finishes at once; its report counts all of it', async () => {
  const world = makeLoop();
  const request = turn({ maxNewTokens: 3, firstTokenUnixMs: 999_700 });
  const { session, end } = await resumed('a', request, answered(letterIds('abc')));
  assert.deepEqual(end, { reason: 'length', text: '' });
  world.loop.join(session, end);
  await world.settle();
  assert.equal(world.calls.length, 0);
  const [finished, ...more] = world.events('a');
  assert.ok(finished?.type === 'finished' && more.length === 0);
  assert.equal(finished.report.completionTokens, 3);
  assert.equal(finished.report.timeToFirstTokenMs, 700, 'the first token came then');
  assert.equal(finished.report.privateBytes, PAGE_BYTES);
  assert.deepEqual(world.closed, ['a']);
  await world.stop();
});

test('a session that finished at once is kept, and runs its history with the next turn', async () => {
  const world = makeLoop();
  const request = turn({ maxNewTokens: 6, keepSessionMs: 5000 });
  const { session, end } = await resumed('a', request, answered(letterIds('abcdef')));
  world.loop.join(session, end);
  await world.settle();
  assert.deepEqual([world.kept, world.closed, world.calls.length], [[session], [], 0]);
  assert.equal(session.endToken, 706);
  session.beginTurn(turn({ turn: 1 }), Uint32Array.of(50, 51), { piece: () => '', join: () => '' });
  world.loop.join(session);
  const sizes: number[] = [];
  for (let step = 0; step < 3; step++) {
    const { items, end } = await world.step();
    sizes.push(items[0]?.tokenIds.length ?? 0);
    end();
  }
  assert.deepEqual(sizes, [4, 1, 3]);
  await world.settle();
  assert.deepEqual(
    world.events('a').map(({ type }) => type),
    ['finished', 'progress', 'token'],
  );
  await world.stop();
});

test('history counts as private memory, of the session that joins and of those that hold it', async () => {
  const world = makeLoop({ maxPrivateBytes: 3 * PAGE_BYTES });
  const long = await resumed('a', turn({}), answered(new Array<number>(600).fill(120)));
  assert.ok(world.loop.hasRoom(long.session, long.session.endToken), '700 + 600: two pages');
  world.loop.join(long.session);
  await world.step(); // 596 rows are still to come
  const other = await begun('b', turn({}));
  assert.ok(world.loop.hasRoom(other, other.endToken));
  const another = await resumed('c', turn({}), answered(new Array<number>(400).fill(120)));
  assert.ok(!world.loop.hasRoom(another.session, another.session.endToken));
  await world.stop();
});
