import assert from '../support/assert.js';
import { after, before, test } from 'node:test';
import type { SessionEvent } from '../../services/domain/session-event.js';
import { Lane, type LaneSession } from '../support/lane.js';
import type { LaneDecode, LaneTurn } from '../support/lane-decode.js';
import { needleSample } from '../support/needle-samples.js';
import {
  assertSameAnswer,
  type CutTurn,
  firstTurn,
  idsOf,
  storedEvents,
  takeOver,
  tokensOf,
  untilTokens,
} from '../support/take-over.js';

/*
 * A decode is killed, and another one goes on. What the stream holds in the end is compared with a run
 * that nothing disturbed, to the bit: what ran again must have left the same keys and values.
 */

const PROMPT = needleSample(0).prompt.slice(0, 1500);
/** Long enough for a kill to land inside. */
const ANSWER_TOKENS = 240;

let lane: Lane;
before(async () => {
  lane = await Lane.start();
});
after(async () => {
  await lane.stop();
});

async function sealed(): Promise<LaneSession> {
  const session = await lane.open(PROMPT);
  await lane.prefill(session, 2048);
  return session;
}

async function release(session: LaneSession): Promise<void> {
  await lane.releaseDecode(session);
  await lane.releaseWorker(session);
}

/** The turn on the lane's own decode, which nothing disturbs. */
async function undisturbed(options: LaneTurn): Promise<SessionEvent[]> {
  const session = await sealed();
  await lane.startDecode(session, options);
  const events = await lane.eventsToEnd(session);
  await release(session);
  return events;
}

async function kill(decode: LaneDecode): Promise<void> {
  decode.service.child.signal('SIGKILL');
  await decode.service.child.exited;
}

/** Another decode answers the turn until so many tokens are in the stream, and is killed. */
async function killedAfter(
  tokens: number,
  options: LaneTurn,
): Promise<{ session: LaneSession; turn: CutTurn }> {
  const [session, victim] = await Promise.all([sealed(), lane.addDecode()]);
  const turn = firstTurn(options);
  await lane.startDecode(session, options, victim);
  await untilTokens(lane, session, turn, tokens);
  await kill(victim);
  return { session, turn };
}

const base: LaneTurn = { ignoreEos: true, maxNewTokens: ANSWER_TOKENS };
const cases: { name: string; options: LaneTurn }[] = [
  { name: 'a greedy answer', options: base },
  { name: 'an answer at temperature 0.8', options: { ...base, temperature: 0.8 } },
  {
    name: 'an answer whose first 100 tokens are forced',
    options: { ...base, temperature: 0.8, forcedTokens: PROMPT.slice(100, 200) },
  },
];

for (const { name, options } of cases) {
  test(`${name} goes on at another decode when its own is killed, as if nothing had been`, async () => {
    const expected = await undisturbed(options);
    const { session, turn } = await killedAfter(20, options);
    const { session: next, answered } = await takeOver(lane, session, turn);
    assert.ok(answered >= 20 && answered < ANSWER_TOKENS, `killed after ${answered} tokens`);
    assertSameAnswer(await lane.eventsToEnd(next), expected);
    await release(next);
  });
}

test('a stop text that began before the kill ends the answer after it', async () => {
  const options: LaneTurn = { ...base, temperature: 0.8 };
  const { session, turn } = await killedAfter(20, options);
  const whole = tokensOf(await undisturbed(options)).map(({ text }) => text);
  const answered = idsOf(await storedEvents(lane, session)).length;
  const stop = whole.slice(answered - 6, answered + 1).join('');
  assert.equal(
    whole.join('').indexOf(stop),
    whole.slice(0, answered - 6).join('').length,
    'it occurs there first',
  );
  const stopped = { ...options, stop: [stop] };
  const expected = await undisturbed(stopped);
  await takeOver(lane, session, { ...turn, options: stopped });
  const events = await lane.eventsToEnd(session);
  // The killed one did not know of the stop text, and held nothing back.
  const rest = (all: readonly SessionEvent[]): SessionEvent[] => [
    ...tokensOf(all).slice(answered),
    ...all.slice(-1),
  ];
  assertSameAnswer(rest(events), rest(expected));
  const last = events.at(-1);
  assert.equal(last?.type === 'finished' && last.finishReason, 'stop_text');
  await release(session);
});

test('a decode that died before it could say that the answer was complete is completed at once', async () => {
  // It dies in the middle of a longer answer: what is in the stream is the whole of a shorter one.
  const { session, turn } = await killedAfter(20, { ...base, temperature: 0.8 });
  const answered = idsOf(await storedEvents(lane, session)).length;
  const options = { ...base, temperature: 0.8, maxNewTokens: answered };
  const expected = await undisturbed(options);
  const stepsBefore = (await lane.decodeStatus()).decodeSteps;
  await takeOver(lane, session, { ...turn, options });
  assertSameAnswer(await lane.eventsToEnd(session), expected);
  const status = await lane.decodeStatus();
  assert.deepEqual([status.decodeSteps, status.sessions], [stepsBefore, 0], 'nothing ran again');
  await release(session);
});

/** A first turn of 12 tokens, and an appended one of `turnTokens`. */
async function twoTurns(
  turnTokens: number,
  options: LaneTurn,
  decode?: LaneDecode,
): Promise<{ session: LaneSession; turn: CutTurn }> {
  const session = await sealed();
  const kept: LaneTurn = { ...base, temperature: 0.8, maxNewTokens: 12, keepSessionMs: 60_000 };
  await lane.startDecode(session, kept, decode);
  const first = await lane.eventsToEnd(session);
  const ids = needleSample(1).prompt.slice(0, turnTokens);
  const beginToken = await lane.appendTurn(session, ids, options, decode);
  assert.equal(beginToken, PROMPT.length + 12);
  const turn = {
    number: 1,
    afterSequence: first.length,
    options,
    before: [...idsOf(first), ...ids],
    answers: [{ beginToken: PROMPT.length, endToken: beginToken }],
    beginToken,
  };
  const prompt = Uint32Array.from([...PROMPT, ...ids]); // for the report
  return { session: { ...session, promptIds: prompt }, turn };
}

test('the answer to an appended turn goes on at another decode', async () => {
  const options: LaneTurn = { ...base, temperature: 0.8 };
  const calm = await twoTurns(330, options);
  const expected = await lane.eventsToEnd(calm.session, calm.turn.afterSequence);
  await release(calm.session);

  const victim = await lane.addDecode();
  const { session, turn } = await twoTurns(330, options, victim);
  await untilTokens(lane, session, turn, 20);
  await kill(victim);
  await takeOver(lane, session, turn);
  const events = await lane.eventsToEnd(session, turn.afterSequence);
  assertSameAnswer(events, expected);
  const progress = (all: readonly SessionEvent[]) => all.filter(({ type }) => type === 'progress');
  assert.deepEqual(progress(events), progress(expected), 'progress is told once');
  await release(session);
});

test('an appended turn whose decode died before its prompt had run is run again', async () => {
  const wanted = { beginToken: PROMPT.length + 12, endToken: PROMPT.length + 12 + 3000 };
  const options: LaneTurn = { ...base, maxNewTokens: 20, promptLogprobs: [wanted] };
  const logprobs = (all: readonly SessionEvent[]) =>
    all.flatMap((event) => (event.type === 'progress' ? event.promptLogprobs : []));
  const calm = await twoTurns(3000, options);
  const expected = await lane.eventsToEnd(calm.session, calm.turn.afterSequence);
  assert.equal(logprobs(expected).length, 3000);
  await release(calm.session);

  const victim = await lane.addDecode();
  const { session, turn } = await twoTurns(3000, options, victim);
  await kill(victim); // a few of its twelve steps have run at most
  const before = await storedEvents(lane, session, turn.afterSequence);
  assert.deepEqual(tokensOf(before), [], 'killed before its first token');
  await takeOver(lane, session, turn);
  const events = await lane.eventsToEnd(session, turn.afterSequence);
  assertSameAnswer(events, expected);
  assert.deepEqual(logprobs(events.slice(before.length)), logprobs(expected), 'all of them again');
  await release(session);
});
