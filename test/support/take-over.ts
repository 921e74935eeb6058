import type {
  SequencedEvent,
  SessionEvent,
  TokenEvent,
} from '../../services/domain/session-event.js';
import assert from './assert.js';
import type { LaneDecode, LaneHistory, LaneTurn } from './lane-decode.js';
import type { Lane, LaneSession } from './lane.js';
import { poll } from './poll.js';

/** A turn that a decode answered in part, or not at all. */
export interface CutTurn {
  readonly number: number;
  /** Its events come after this one. */
  readonly afterSequence: number;
  readonly options: LaneTurn;
  /** Tokens between those that are sealed and its answer, and which of them were answers. */
  readonly before: readonly number[];
  readonly answers: LaneHistory['answers'];
  readonly beginToken: number;
}

export function firstTurn(options: LaneTurn): CutTurn {
  return { number: 0, afterSequence: 0, options, before: [], answers: [], beginToken: 0 };
}

export function tokensOf(events: readonly SessionEvent[]): TokenEvent[] {
  return events.flatMap((event) => (event.type === 'token' ? [event] : []));
}

export function idsOf(events: readonly SessionEvent[]): number[] {
  return tokensOf(events).map(({ tokenId }) => tokenId);
}

export async function storedEvents(
  lane: Lane,
  { record }: LaneSession,
  afterSequence = 0,
): Promise<SessionEvent[]> {
  const events: SequencedEvent[] = await lane.store.events.read(
    record.sessionId,
    afterSequence,
    1_000_000,
  );
  return events.map(({ event }) => event);
}

/** Waits until so many tokens of a turn are in the stream. */
export async function untilTokens(
  lane: Lane,
  session: LaneSession,
  turn: CutTurn,
  tokens: number,
): Promise<void> {
  await poll(
    () => storedEvents(lane, session, turn.afterSequence),
    (events) => tokensOf(events).length >= tokens,
    30_000,
    1,
  );
}

/**
 * What the driver does when a decode is lost: the next attempt goes on from what is in the stream.
 *
 * @returns the session at that attempt, and how many tokens were answered before
 */
export async function takeOver(
  lane: Lane,
  session: LaneSession,
  turn: CutTurn,
  decode?: LaneDecode,
): Promise<{ readonly session: LaneSession; readonly answered: number }> {
  const next = await lane.nextAttempt(session);
  const answered = idsOf(await storedEvents(lane, session, turn.afterSequence));
  const history = {
    turn: turn.number,
    historyTokenIds: [...turn.before, ...answered],
    answeredTokens: answered.length,
    turnBeginToken: turn.beginToken,
    answers: turn.answers ?? [],
  };
  await lane.startDecode(next, { ...turn.options, ...history }, decode);
  return { session: next, answered: answered.length };
}

/** That two runs of a turn told the same: tokens, texts, log-probabilities to the bit, and the end. */
export function assertSameAnswer(
  actual: readonly SessionEvent[],
  expected: readonly SessionEvent[],
): void {
  assert.deepEqual(tokensOf(actual), tokensOf(expected));
  const [mine, theirs] = [actual.at(-1), expected.at(-1)];
  assert.ok(mine?.type === 'finished' && theirs?.type === 'finished');
  const endOf = ({ finishReason, text, report }: typeof mine) => {
    const { completionTokens, promptTokens, privateBytes, policy } = report;
    return { finishReason, text, completionTokens, promptTokens, privateBytes, policy };
  };
  assert.deepEqual(endOf(mine), endOf(theirs));
}
