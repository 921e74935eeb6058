import assert from '../../support/assert.js';
import { test } from 'node:test';
import type { AnswerEvent } from '../../../services/cli/rpc/answer-events.js';
import { lastingAnswer, type ResumingRouter } from '../../../services/cli/rpc/lasting-answer.js';
import { RouterUnreachable } from '../../../services/cli/rpc/router-error.js';
import { ServingError } from '../../../services/domain/serving-error.js';

const SESSION = '0'.repeat(32);

const accepted: AnswerEvent = {
  ...{ sessionId: SESSION, sequence: 1, type: 'accepted', model: 'needle', reservedBytes: 0 },
  sparsePrefill: null,
};

function token(sequence: number): AnswerEvent {
  const index = sequence - 2;
  const text = ` ${String(index)}`;
  return {
    ...{ sessionId: SESSION, sequence, type: 'token', index, tokenId: index, text },
    ...{ logprob: 0, rank: 1 },
  };
}

/** Events, then the failure if there is one. */
async function* stream(
  events: readonly AnswerEvent[],
  failure?: Error,
): AsyncGenerator<AnswerEvent> {
  await Promise.resolve();
  yield* events;
  if (failure !== undefined) throw failure;
}

const gone = (): Error => new RouterUnreachable('no router answers');

/** A router whose n-th Resume gives the n-th stream. */
class Scripted implements ResumingRouter {
  readonly asked: number[] = [];

  constructor(
    readonly address: string,
    private readonly answers: (() => AsyncGenerator<AnswerEvent>)[] = [],
  ) {}

  resume(sessionId: string, afterSequence: number): AsyncGenerator<AnswerEvent> {
    assert.equal(sessionId, SESSION);
    this.asked.push(afterSequence);
    return this.answers.shift()?.() ?? stream([], gone());
  }
}

interface Outcome {
  readonly sequences: number[];
  readonly lost: string[];
  readonly error: unknown;
}

async function collect(
  first: AsyncIterable<AnswerEvent>,
  routers: readonly [ResumingRouter, ...ResumingRouter[]],
  patienceMs = 60_000,
  signal = new AbortController().signal,
): Promise<Outcome> {
  const sequences: number[] = [];
  const lost: string[] = [];
  const onLost = (from: string, next: string): void => {
    lost.push(`${from} > ${next}`);
  };
  try {
    for await (const event of lastingAnswer(first, null, routers, { signal, onLost, patienceMs })) {
      sequences.push(event.sequence);
    }
    return { sequences, lost, error: null };
  } catch (error) {
    return { sequences, lost, error };
  }
}

test('the next router goes on after the last event, and none comes twice', async () => {
  const a = new Scripted('a');
  const b = new Scripted('b', [() => stream([token(3), token(4)], gone())]);
  const c = new Scripted('c', [() => stream([token(4), token(5)])]);
  const outcome = await collect(stream([accepted, token(2), token(3)], gone()), [a, b, c]);
  assert.deepEqual(outcome, { sequences: [1, 2, 3, 4, 5], lost: ['a > b', 'b > c'], error: null });
  assert.deepEqual([a.asked, b.asked, c.asked], [[], [3], [4]]);
});

test('routers are asked in turn until one is there; a loss is told once', async () => {
  const stopping = new ServingError('SHUTTING_DOWN', 'the router is shutting down');
  const a = new Scripted('a', [() => stream([token(2)])]);
  const b = new Scripted('b');
  const outcome = await collect(stream([accepted], stopping), [a, b]);
  assert.deepEqual(outcome, { sequences: [1, 2], lost: ['a > b'], error: null });
  assert.deepEqual([a.asked, b.asked], [[1], [1]]);
});

test('a single router is asked again: it may have been started again', async () => {
  const a = new Scripted('a', [() => stream([token(2)])]);
  const { sequences, lost } = await collect(stream([accepted], gone()), [a]);
  assert.deepEqual([sequences, lost], [[1, 2], ['a > a']]);
});

test('what no other router can mend is thrown at once', async () => {
  const failed: AnswerEvent = {
    ...{ sessionId: SESSION, sequence: 2, type: 'error', code: 'REDIS_UNAVAILABLE', message: '' },
  };
  const cases: [AsyncIterable<AnswerEvent>, string][] = [
    [stream([], gone()), 'a router that nothing came from'],
    [stream([accepted], new ServingError('DATA_LOSS', '')), 'an end of the session'],
    [
      stream([accepted], new ServingError('WORKER_LOST', '')),
      'an end that a new request may avoid',
    ],
    [stream([accepted, failed], new ServingError('REDIS_UNAVAILABLE', '')), 'a told end'],
  ];
  for (const [first, what] of cases) {
    const [a, b] = [new Scripted('a'), new Scripted('b')];
    const { error } = await collect(first, [a, b]);
    assert.ok(error instanceof Error, what);
    assert.deepEqual([a.asked, b.asked], [[], []], what);
  }
});

test('patience ends, and so does it all when the user leaves', async () => {
  const never = new Scripted('a');
  const { error } = await collect(stream([accepted], gone()), [never], 600);
  assert.ok(error instanceof RouterUnreachable);
  assert.ok(never.asked.length > 0);
  const leave = new AbortController();
  setTimeout(() => {
    leave.abort();
  }, 100);
  const left = await collect(stream([accepted], gone()), [never], 60_000, leave.signal);
  assert.equal((left.error as Error).name, 'AbortError');
});

test('the time that the caller takes with an event is not time without one', async () => {
  const a = new Scripted('a');
  const b = new Scripted('b', [() => stream([token(3)])]);
  const patience = {
    signal: new AbortController().signal,
    onLost: () => undefined,
    patienceMs: 50,
  };
  const sequences: number[] = [];
  for await (const event of lastingAnswer(
    stream([accepted, token(2)], gone()),
    null,
    [a, b],
    patience,
  )) {
    sequences.push(event.sequence);
    await new Promise((resolve) => setTimeout(resolve, 80));
  }
  assert.deepEqual(sequences, [1, 2, 3]);
});
