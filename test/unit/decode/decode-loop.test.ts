import assert from '../../support/assert.js';
import { test } from 'node:test';
import type { DecodeItemResult } from '../../../native/ts/index.js';
import {
  EOS,
  PAGE_BYTES,
  letters,
  type StepCall,
  makeLoop,
  echo,
  turn,
  session,
  begun,
} from './fake-loop.js';

const sessionsOf = (call: StepCall): unknown[] => call.items.map((item) => item.session);

test('one engine call a step takes the whole batch; sessions join and leave between steps', async () => {
  const world = makeLoop();
  const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((id) => begun(id, turn({}))));
  assert.ok(a && b && c);
  world.loop.join(a);
  const first = await world.step();
  assert.deepEqual(sessionsOf(first), [a.handle]);
  assert.deepEqual([...(first.items[0]?.tokenIds ?? [1])], [], 'the last hidden row is there');
  world.loop.join(b);
  world.loop.join(c);
  await world.settle();
  assert.equal(world.calls.length, 1, 'nothing joins a running step');
  first.end();
  const second = await world.step();
  assert.deepEqual(sessionsOf(second), [a.handle, b.handle, c.handle], 'in the order they joined');
  assert.deepEqual([...(second.items[0]?.tokenIds ?? [])], [97], 'then the token sampled last');
  const left = world.loop.leave(b);
  await world.settle();
  assert.deepEqual(world.cancelled, [b.handle], 'cancelled at once');
  assert.deepEqual(world.closed, [], 'but not freed under a running step');
  second.end();
  await left;
  assert.deepEqual(world.closed, ['b']);
  assert.deepEqual(sessionsOf(await world.step()), [a.handle, c.handle]);
  assert.equal(world.loop.steps, world.calls.length);
  assert.deepEqual(world.events('b'), [], 'what a leaving session sampled is not said');
  await world.stop();
  assert.deepEqual(world.closed.sort(), ['a', 'b', 'c']);
});

test('a turn ends at max_new_tokens with a report, and its memory goes at once', async () => {
  const world = makeLoop();
  world.loop.join(await begun('a', turn({ maxNewTokens: 2 })));
  (await world.step()).end();
  await world.settle();
  world.pass(40);
  (await world.step()).end();
  await world.settle();
  const [one, two, finished] = world.events('a');
  assert.deepEqual(one, { type: 'token', index: 0, tokenId: 97, text: 'a', logprob: -1, rank: 1 });
  assert.equal(two?.type === 'token' && two.index, 1);
  assert.ok(finished?.type === 'finished');
  assert.equal(finished.finishReason, 'length');
  assert.equal(finished.keptUntilUnixMs, null);
  const { report } = finished;
  assert.equal(report.completionTokens, 2);
  assert.equal(report.timeToFirstTokenMs, 1000);
  assert.equal(report.prefillMs, 600);
  assert.equal(report.decodeMs, 40);
  assert.equal(report.privateBytes, PAGE_BYTES, 'the copied partial page');
  assert.deepEqual(world.closed, ['a']);
  await world.stop();
});

test('an end-of-sequence id ends the turn unless it is ignored', async () => {
  const world = makeLoop();
  world.loop.join(await begun('a', turn({ forcedTokenIds: [120, EOS] })));
  world.loop.join(await begun('b', turn({ forcedTokenIds: [120, EOS], ignoreEos: true })));
  (await world.step()).end();
  (await world.step()).end();
  const third = await world.step();
  assert.equal(third.items.length, 1, 'only the one that ignores it goes on');
  const finished = world.events('a').at(-1);
  assert.equal(finished?.type === 'finished' && finished.finishReason, 'stop');
  await world.stop();
});

test('a stop text ends the turn and no part of it is shown', async () => {
  const world = makeLoop();
  world.loop.join(
    await begun('a', turn({ forcedTokenIds: [120, 98, 99, 100], stopTexts: ['bc'] })),
  );
  for (let step = 0; step < 3; step++) (await world.step()).end();
  await world.settle();
  const texts = world.events('a').map((e) => ('text' in e ? e.text : ''));
  assert.deepEqual(texts, ['x', '', '', '']);
  const finished = world.events('a').at(-1);
  assert.equal(finished?.type === 'finished' && finished.finishReason, 'stop_text');
  await world.stop();
});

test("the model's last position ends the turn", async () => {
  const world = makeLoop({ endRules: { eosTokenIds: new Set(), maxPositions: 701 } });
  world.loop.join(await begun('a', turn({})));
  (await world.step()).end();
  (await world.step()).end();
  await world.settle();
  assert.deepEqual(
    world.events('a').map((event) => event.type),
    ['token', 'token', 'finished'],
  );
  await world.stop();
});

for (const code of ['DATA_LOSS', 'INTERNAL'] as const) {
  test(`one session's ${code} gives its turn back; the others go on`, async () => {
    const handedBack: string[] = [];
    const world = makeLoop({ onHandedBack: (reason) => handedBack.push(reason) });
    const [a, b] = [await begun('a', turn({})), await begun('b', turn({}))];
    world.loop.join(a);
    world.loop.join(b);
    await world.settle();
    (await world.step()).end(); // a alone: b joined while it ran
    const both = await world.step();
    const results = both.items.map(echo);
    results[0] = {
      ...(results[0] as DecodeItemResult),
      error: { code, message: 'page 3' },
      tokenId: null,
    };
    both.end(results);
    assert.deepEqual(sessionsOf(await world.step()), [b.handle]);
    const [first, ...rest] = world.events('a');
    assert.equal(first?.type, 'token', 'what was chosen before is said before');
    assert.deepEqual(rest, [{ type: 'interrupted', code, message: 'page 3' }]);
    assert.deepEqual(handedBack, [code]);
    assert.deepEqual(world.closed, ['a']);
    await world.stop();
  });
}

test('a step that fails as a whole gives its turns back, and does not end the loop', async () => {
  const world = makeLoop();
  world.loop.join(await begun('a', turn({})));
  (await world.step()).fail(new Error('broken'));
  await world.settle();
  const last = world.events('a').at(-1);
  assert.equal(last?.type === 'interrupted' && last.code, 'INTERNAL');
  world.loop.join(await begun('b', turn({ maxNewTokens: 1 })));
  (await world.step()).end();
  await world.settle();
  assert.equal(world.events('b').at(-1)?.type, 'finished');
  await world.stop();
});

test('what shutdown cuts off is given back, and no token follows', async () => {
  const world = makeLoop();
  const [a, b] = [
    await begun('a', turn({})),
    await begun('b', turn({ maxNewTokens: 1, keepSessionMs: 9 })),
  ];
  world.loop.join(a);
  world.loop.join(b);
  await world.settle();
  (await world.step()).end(); // a alone: b joined while it ran
  (await world.step()).end();
  const running = await world.step();
  world.loop.handBack('SHUTTING_DOWN', 'ending');
  running.end();
  await world.settle();
  assert.deepEqual(
    world.events('a').map((event) => event.type),
    ['token', 'token', 'interrupted'],
  );
  assert.deepEqual(world.events('a').at(-1), {
    type: 'interrupted',
    code: 'SHUTTING_DOWN',
    message: 'ending',
  });
  assert.equal(world.events('b').at(-1)?.type, 'finished', 'a kept session has no turn to end');
  await world.stop();
  assert.deepEqual(world.closed.sort(), ['a', 'b']);
});

test('a session past its deadline leaves with DEADLINE_EXCEEDED', async () => {
  const world = makeLoop();
  world.loop.join(await begun('a', turn({ deadlineUnixMs: 1_000_050 })));
  (await world.step()).end();
  const second = await world.step();
  world.pass(60);
  second.end();
  await world.settle();
  const last = world.events('a').at(-1);
  assert.equal(last?.type === 'error' && last.code, 'DEADLINE_EXCEEDED');
  assert.deepEqual(world.closed, ['a']);
  await world.stop();
});

test('where memory runs out, the newest session that grows is given back; the others go on', async () => {
  const handedBack: string[] = [];
  const world = makeLoop({
    maxPrivateBytes: 4 * PAGE_BYTES,
    onHandedBack: (code) => handedBack.push(code),
  });
  // Four partial pages fill the limit; two of them are one token short of needing another.
  const sessions = await Promise.all([
    begun('old', turn({}), 1023),
    begun('still', turn({}), 700),
    begun('new', turn({}), 1023),
    begun('newest', turn({}), 700),
  ]);
  for (const joining of sessions) world.loop.join(joining);
  for (let step = 0; step < 4; step++) (await world.step()).end();
  await world.settle();
  const given = world.events('new');
  assert.deepEqual(
    given.map(({ type }) => type),
    ['token', 'token', 'interrupted'],
    'after its tokens',
  );
  const last = given.at(-1);
  assert.equal(last?.type === 'interrupted' && last.code, 'VALUE_STORE_FULL');
  assert.deepEqual(world.closed, ['new'], 'its memory is free');
  assert.deepEqual(handedBack, ['VALUE_STORE_FULL']);
  for (const id of ['old', 'still', 'newest']) {
    assert.deepEqual(
      world.events(id).map(({ type }) => type),
      ['token', 'token', 'token', 'token'],
      id,
    );
  }
  await world.stop();
});

test('a session that grows is given back even if it is the oldest, where no other grows', async () => {
  const world = makeLoop({ maxPrivateBytes: 2 * PAGE_BYTES });
  const old = await begun('old', turn({}), 1023);
  const young = await begun('young', turn({}), 700);
  for (const joining of [old, young]) world.loop.join(joining);
  for (let step = 0; step < 4; step++) (await world.step()).end();
  await world.settle();
  const last = world.events('old').at(-1);
  assert.equal(last?.type === 'interrupted' && last.code, 'VALUE_STORE_FULL');
  assert.deepEqual(world.closed, ['old']);
  assert.equal(world.events('young').at(-1)?.type, 'token');
  await world.stop();
});

test('a session that would not even fit alone ends; it takes no other with it', async () => {
  const world = makeLoop({ maxPrivateBytes: 2 * PAGE_BYTES });
  const grown = session('grown', 1023);
  grown.beginTurn(turn({}), new Uint32Array(1026).fill(120), letters);
  world.loop.join(grown);
  world.loop.join(await begun('small', turn({}), 700));
  for (let step = 0; step < 18; step++) (await world.step()).end();
  await world.settle();
  const last = world.events('grown').at(-1);
  assert.ok(last?.type === 'error' && last.code === 'VALUE_STORE_FULL');
  assert.ok((last.details.retryAfterMs ?? 0) > 0, 'says when to try again');
  assert.match(last.details.quota?.description ?? '', /DECODE_MAX_PRIVATE_BYTES/);
  assert.deepEqual(world.closed, ['grown']);
  assert.equal(world.events('small').at(-1)?.type, 'token');
  await world.stop();
});

test('a turn is appended in pieces while others decode, then decodes; the session was kept', async () => {
  const world = makeLoop();
  const a = await begun('a', turn({ maxNewTokens: 1, keepSessionMs: 5000 }));
  world.loop.join(a);
  (await world.step()).end();
  await world.settle();
  assert.deepEqual(world.kept, [a]);
  assert.deepEqual(world.closed, []);
  const finished = world.events('a').at(-1);
  assert.equal(finished?.type === 'finished' && finished.keptUntilUnixMs, 1_005_000);

  world.loop.join(await begun('b', turn({})));
  const alone = await world.step();
  assert.equal(alone.items.length, 1, 'a kept session runs nothing');
  const ids = Uint32Array.from({ length: 100 }, (_, index) => 1000 + index);
  assert.equal(a.endToken, 701, 'the last sampled token comes first');
  const wanted = [
    { beginToken: 701, endToken: 703 },
    { beginToken: 799, endToken: 801 },
  ];
  a.beginTurn(turn({ turn: 1, maxNewTokens: 1, promptLogprobs: wanted }), ids, letters);
  world.loop.join(a);
  alone.end();

  const first = await world.step();
  const [pieceOne] = first.items;
  assert.equal(pieceOne?.tokenIds.length, 64);
  assert.deepEqual([...pieceOne.tokenIds.slice(0, 3)], [97, 1000, 1001]);
  assert.deepEqual([...(pieceOne.logprobTargets?.slice(0, 3) ?? [])], [1000, 1001, 0xffffffff]);
  assert.equal(pieceOne.sample, false);
  first.end();
  const second = await world.step();
  const [pieceTwo] = second.items;
  assert.equal(pieceTwo?.tokenIds.length, 37);
  assert.equal(pieceTwo.sample, true);
  second.end();
  await world.settle();
  const events = world.events('a').slice(2);
  assert.deepEqual(
    events.map((event) => event.type),
    ['progress', 'progress', 'token', 'finished'],
  );
  const turns = world.log.flatMap((e) => (e.sessionId === 'a' ? [e.turn] : []));
  assert.deepEqual(turns, [0, 0, 1, 1, 1, 1], 'each event names its turn');
  const logprobs = events.flatMap((e) => (e.type === 'progress' ? e.promptLogprobs : []));
  assert.deepEqual(
    logprobs.map(({ position, tokenId, logprob, rank }) => [position, tokenId, logprob, rank]),
    [
      [701, 1000, -1000, 2],
      [702, 1001, -1001, 2],
      [799, 1098, -1098, 2],
      [800, 1099, -1099, 2],
    ],
  );
  assert.equal(events[1]?.type === 'progress' && events[1].processedTokens, 801);
  assert.equal(world.loop.steps, world.calls.length);
  await world.stop();
});

test('a turn alone is appended in larger pieces', async () => {
  const world = makeLoop();
  const a = session('a');
  a.beginTurn(turn({ maxNewTokens: 1 }), new Uint32Array(300).fill(120), letters);
  world.loop.join(a);
  const first = await world.step();
  assert.equal(first.items[0]?.tokenIds.length, 256);
  first.end();
  assert.equal((await world.step()).items[0]?.tokenIds.length, 44);
  await world.stop();
});
