import assert from '../../support/assert.js';
import { setImmediate as tick } from 'node:timers/promises';
import { test } from 'node:test';
import { ServingError, type ErrorCode } from '../../../services/domain/serving-error.js';
import type { AppendTurn } from '../../../services/decode/sessions/requests.js';
import type { TurnHistory } from '../../../services/decode/loop/turn.js';
import { NO_HISTORY } from './fake-loop.js';
import { A, B, EOS, makeWorld, SEALED_TOKENS, start, turn } from './sessions-world.js';

function append(more: Partial<AppendTurn> = {}): AppendTurn {
  const fence = { sessionId: A, epoch: 1, attempt: 1 };
  return { ...fence, turn: 1, tokenIds: Uint32Array.of(1, 2), ...turn, ...more };
}

function refusedWith(code: ErrorCode) {
  return (error: unknown): boolean => error instanceof ServingError && error.code === code;
}

test('a repeated start joins the first; a newer epoch or attempt replaces, an older one is stale', async () => {
  const { sessions, joined, left, handOffs, started } = makeWorld();
  const [one, two] = [sessions.start(start()), sessions.start(start())];
  await tick();
  assert.equal(handOffs.length, 1);
  handOffs[0]?.resolve();
  assert.deepEqual(await Promise.all([one, two]), [7, 7]);
  assert.equal(joined.length, 1);
  await started(start({ attempt: 2 }));
  assert.equal(left.length, 1, 'the older attempt left first');
  await started(start({ epoch: 2, attempt: 2 }));
  assert.equal(left.length, 2, 'and so did the older epoch');
  assert.equal(sessions.count, 1);
  for (const older of [{ attempt: 3 }, { epoch: 2 }]) {
    await assert.rejects(sessions.start(start(older)), refusedWith('STALE_EPOCH'));
  }
});

test('a release while the hand-off is on its way frees what was opened, and nothing joins', async () => {
  const { sessions, joined, handOffs, closed } = makeWorld();
  const refused = assert.rejects(sessions.start(start()), refusedWith('CANCELLED'));
  await tick();
  const released = sessions.release(A);
  assert.ok(handOffs[0]?.signal.aborted);
  handOffs[0].resolve();
  assert.equal(await released, 0);
  await refused;
  assert.deepEqual([joined.length, closed.length, sessions.count], [0, 0, 0]);
});

test('a start that shutdown cuts off is refused as SHUTTING_DOWN: another decode may take it', async () => {
  const { sessions, handOffs, closed } = makeWorld();
  const refused = assert.rejects(sessions.start(start()), refusedWith('SHUTTING_DOWN'));
  await tick();
  sessions.drain();
  const released = sessions.releaseAll();
  handOffs[0]?.resolve();
  await released;
  await refused;
  assert.deepEqual([closed.length, sessions.count], [0, 0]);
});

test('a full, draining or foreign decode refuses before it fetches anything', async () => {
  const { sessions, handOffs, started } = makeWorld({ maxSessions: 1 });
  await started(start());
  await assert.rejects(sessions.start(start({ sessionId: B })), refusedWith('TOO_MANY_SESSIONS'));
  const foreign = start({ sessionId: B, fingerprint: '0'.repeat(32) });
  assert.equal(await sessions.release(A), 55);
  await assert.rejects(sessions.start(foreign), refusedWith('DATA_LOSS'));
  const forced = { ...turn.generation, forcedTokenIds: [100] };
  await assert.rejects(
    sessions.start(start({ generation: forced })),
    refusedWith('TOKEN_ID_OUT_OF_RANGE'),
  );
  sessions.drain();
  await assert.rejects(sessions.start(start()), refusedWith('SHUTTING_DOWN'));
  assert.equal(handOffs.length, 1);
});

test('a refused event ends the session only at its epoch and while its turn runs', async () => {
  const { sessions, left, started } = makeWorld();
  const session = await started(start({ epoch: 2 }));
  await sessions.refused({ sessionId: A, epoch: 1, attempt: 1, turn: 0 }, 'stale-epoch');
  await sessions.refused({ sessionId: A, epoch: 2, attempt: 0, turn: 0 }, 'stale-epoch');
  await sessions.refused({ sessionId: B, epoch: 2, attempt: 1, turn: 0 }, 'ended');
  assert.equal(left.length, 0, 'none concerns what is held');
  session.turn = null;
  await sessions.refused({ sessionId: A, epoch: 2, attempt: 1, turn: 0 }, 'ended');
  assert.equal(left.length, 0, 'kept: the turn is over');
  sessions.append(append({ epoch: 2 }));
  await sessions.refused({ sessionId: A, epoch: 2, attempt: 1, turn: 0 }, 'ended');
  assert.equal(left.length, 0, 'another turn runs');
  await sessions.refused({ sessionId: A, epoch: 2, attempt: 1, turn: 1 }, 'ended');
  assert.deepEqual(left, [session]);
  assert.equal(sessions.count, 0);
});

test('a session whose record is gone is released, kept or not', async () => {
  const { sessions, left, started } = makeWorld();
  const session = await started(start());
  session.turn = null;
  await sessions.refused({ sessionId: A, epoch: 1, attempt: 1, turn: 0 }, 'unknown');
  assert.deepEqual(left, [session]);
});

test('an unknown session is released with success', async () => {
  assert.equal(await makeWorld().sessions.release(B), 0);
});

const turns: { name: string; with: Partial<AppendTurn>; code: ErrorCode }[] = [
  { name: 'of another session', with: { sessionId: B }, code: 'SESSION_NOT_FOUND' },
  { name: 'of another epoch', with: { epoch: 2 }, code: 'STALE_EPOCH' },
  { name: 'of another attempt', with: { attempt: 2 }, code: 'STALE_EPOCH' },
  { name: 'that is not the next', with: { turn: 2 }, code: 'SESSION_BUSY' },
  { name: 'without tokens', with: { tokenIds: new Uint32Array(0) }, code: 'EMPTY_PROMPT' },
  { name: 'of 4,097 tokens', with: { tokenIds: new Uint32Array(4097) }, code: 'PROMPT_TOO_LONG' },
  {
    name: "past the model's positions",
    with: { tokenIds: new Uint32Array(401) },
    code: 'PROMPT_TOO_LONG',
  },
  {
    name: 'with an id outside the vocabulary',
    with: { tokenIds: Uint32Array.of(1, 100) },
    code: 'TOKEN_ID_OUT_OF_RANGE',
  },
];

for (const refusal of turns) {
  test(`a turn ${refusal.name} is refused`, async () => {
    const { sessions, started } = makeWorld();
    const session = await started(start());
    session.turn = null; // its first turn has ended
    assert.throws(() => sessions.append(append(refusal.with)), refusedWith(refusal.code));
  });
}

test('a turn begins where the session ends, but not while one runs', async () => {
  const { sessions, joined, started } = makeWorld();
  const session = await started(start());
  assert.throws(() => sessions.append(append()), refusedWith('SESSION_BUSY'));
  session.turn = null;
  assert.equal(sessions.append(append()), SEALED_TOKENS);
  assert.deepEqual(joined, [session, session]);
  assert.equal(sessions.append(append()), SEALED_TOKENS, 'a repeated call begins nothing');
  assert.equal(session.endToken, SEALED_TOKENS + 2);
  assert.throws(() => sessions.append(append({ turn: 2 })), refusedWith('SESSION_BUSY'));
  assert.deepEqual(joined, [session, session]);
});

const history = (answered: number[], more: Partial<TurnHistory> = {}): TurnHistory => ({
  ...NO_HISTORY,
  tokenIds: Uint32Array.from(answered),
  answeredTokens: answered.length,
  ...more,
});

test('a session goes on where its history ends', async () => {
  const { ends, replayed, started } = makeWorld();
  const session = await started(start({ turn: 4, attempt: 3, history: history([7, 8, 9]) }));
  assert.equal(session.endToken, SEALED_TOKENS + 3);
  assert.equal(session.turn?.completionTokens, 3);
  assert.deepEqual([session.turnNumber, session.attempt], [4, 3]);
  assert.deepEqual([ends, replayed], [[null], [3]]);
});

test('a history that ends its turn joins with the end, and runs nothing again', async () => {
  const { ends, replayed, started } = makeWorld({ hasRoom: false });
  await started(start({ history: history([7, 8, EOS]) }));
  assert.deepEqual(ends, [{ reason: 'stop', text: '' }]);
  assert.deepEqual(replayed, []);
});

const histories: { name: string; history: TurnHistory; code: ErrorCode; fetches: number }[] = [
  {
    name: 'with an id outside the vocabulary',
    history: history([1, 100]),
    code: 'TOKEN_ID_OUT_OF_RANGE',
    fetches: 0,
  },
  {
    name: 'shorter than its answer',
    history: history([1], { answeredTokens: 2 }),
    code: 'BAD_REQUEST',
    fetches: 0,
  },
  {
    name: "past the model's positions",
    history: history(new Array<number>(402).fill(7)),
    code: 'PROMPT_TOO_LONG',
    fetches: 1,
  },
  {
    name: 'whose turn begins after its answer',
    history: history([1], { turnBeginToken: SEALED_TOKENS + 1 }),
    code: 'BAD_REQUEST',
    fetches: 1,
  },
  {
    name: 'that goes on after its answer has ended',
    history: history([7, EOS, 7]),
    code: 'BAD_REQUEST',
    fetches: 1,
  },
];

for (const wrong of histories) {
  test(`a history ${wrong.name} is refused, and nothing stays`, async () => {
    const { sessions, handOffs, closed, joined } = makeWorld();
    const refused = assert.rejects(
      sessions.start(start({ history: wrong.history })),
      refusedWith(wrong.code),
    );
    await tick();
    handOffs[0]?.resolve();
    await refused;
    assert.equal(handOffs.length, wrong.fetches);
    assert.equal(closed.length, wrong.fetches, 'what was opened was closed');
    assert.deepEqual([joined.length, sessions.count], [0, 0]);
  });
}

test('a session whose history has no room in the private memory is refused', async () => {
  const { sessions, handOffs, closed, joined } = makeWorld({ hasRoom: false });
  const refused = assert.rejects(
    sessions.start(start({ history: history([7]) })),
    (error) =>
      error instanceof ServingError &&
      error.code === 'VALUE_STORE_FULL' &&
      error.details.retryAfterMs !== undefined &&
      error.details.quota !== undefined,
  );
  await tick();
  handOffs[0]?.resolve();
  await refused;
  assert.deepEqual([joined.length, closed.length, sessions.count], [0, 1, 0]);
});

test('a kept session that nobody releases is freed a little after its time', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { sessions, left, started } = makeWorld();
  const session = await started(start());
  session.turn = null;
  sessions.kept(session, 5000);
  context.mock.timers.tick(5999);
  assert.equal(left.length, 0);
  context.mock.timers.tick(1);
  await tick();
  assert.deepEqual(left, [session]);
  await tick();
  assert.equal(sessions.count, 0);
});
