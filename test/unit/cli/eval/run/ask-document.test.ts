import assert from '../../../../support/assert.js';
import { before, describe, test } from 'node:test';
import { setImmediate as tick } from 'node:timers/promises';
import { ServingError } from '../../../../../services/domain/serving-error.js';
import type { AnswerEvent } from '../../../../../services/cli/rpc/answer-events.js';
import type { ForkedSession } from '../../../../../services/cli/rpc/router-client.js';
import { Routers } from '../../../../../services/cli/rpc/routers.js';
import type { EvalQuestion } from '../../../../../services/cli/eval/eval-types.js';
import { askDocument } from '../../../../../services/cli/eval/run/ask-document.js';
import { EvalCluster } from '../../../../../services/cli/eval/run/eval-cluster.js';
import type { PlanThresholds } from '../../../../../services/cli/eval/run/run-plan.js';
import type { SparseThresholds } from '../../../../../services/cli/rpc/sparse-thresholds.js';
import { toPolicy } from '../../../../../services/cli/eval/run/policies.js';
import { PromptHalves } from '../../../../../services/cli/eval/run/prompt-halves.js';
import { Turnstile } from '../../../../../services/cli/eval/run/turnstile.js';
import { MODEL, NEEDLE_MODEL } from '../../../../support/cluster.js';
import { finishedEvent } from './answers.js';

const RESOLVED: SparseThresholds = {
  ...{ tilesPerBlock: 32, denseBelowTokens: 8_192, patternsSha256: 'a'.repeat(64) },
  ...{ gamma: 0.95, tau: 0.1, minTiles: 8, tilesOverrideFile: false },
};

/** Counts its forks, and fails some of them. */
class CountedForks extends EvalCluster {
  forks = 0;
  released = 0;

  constructor(private readonly failureOf: (fork: number) => Error | null) {
    const signal = new AbortController().signal;
    super(new Routers(['127.0.0.1:1'], {}), MODEL, 60_000, signal, () => undefined);
  }

  override async *generate(): AsyncGenerator<AnswerEvent> {
    await tick();
    yield {
      ...{ sessionId: 's', sequence: 1, type: 'accepted', model: MODEL, reservedBytes: 1 },
      sparsePrefill: RESOLVED,
    };
    yield finishedEvent('an answer');
  }

  override async fork(): Promise<ForkedSession> {
    this.forks += 1;
    const failure = this.failureOf(this.forks);
    await tick();
    if (failure !== null) throw failure;
    return { sessionId: 'fork', keptUntilUnixMs: 0, tokens: 3 };
  }

  override async release(): Promise<void> {
    this.released += 1;
    return Promise.resolve();
  }
}

const QUESTIONS: readonly EvalQuestion[] = Array.from({ length: 20 }, (_, at) => ({
  ...{ id: `q${at}`, questionText: 'What?', answerPrefix: '', references: ['an answer'] },
  ...{ metric: 'string_match_all', maxNewTokens: 1, facts: {} },
}));

describe('The questions of a document', () => {
  let halves: PromptHalves;
  before(async () => {
    halves = await PromptHalves.load(MODEL, NEEDLE_MODEL);
  });

  /** @returns how many were answered */
  async function ask(
    cluster: CountedForks,
    turns: Turnstile,
    thresholds?: PlanThresholds,
  ): Promise<[number, unknown]> {
    let answered = 0;
    const document = {
      ...{ id: 'd', task: 't', lengthTokens: 10, promptText: 'A text.', chat: true },
      ...{ questions: QUESTIONS, logprobTargets: [] },
    };
    const samples = {
      has: () => false,
      add: async (): Promise<void> => {
        answered += 1;
        return Promise.resolve();
      },
    };
    const encoded = { document, ids: [1, 2, 3], targetRanges: [] };
    const run = { cluster, halves, turns, thresholds };
    const failure = await askDocument(encoded, toPolicy('minference'), run, samples).then(
      () => null,
      (error: unknown) => error,
    );
    return [answered, failure];
  }

  test('are not begun any more after one of them failed for good', async () => {
    const wrong = new ServingError('BAD_REQUEST', 'a wrong question');
    const cluster = new CountedForks((fork) => (fork === 3 ? wrong : null));
    const [answered, failure] = await ask(cluster, new Turnstile(2));
    assert.equal(failure, wrong);
    // The other of the two turns may have begun one more fork by then, whose answer counts.
    assert.ok(cluster.forks <= 4, `${cluster.forks} forks`);
    assert.equal(answered, cluster.forks - 1);
    assert.equal(cluster.released, 1);
  });

  test('are not tried again after one of them failed for good', async () => {
    const full = new ServingError('VALUE_STORE_FULL', 'no room', { retryAfterMs: 1 });
    const wrong = new ServingError('BAD_REQUEST', 'a wrong question');
    const cluster = new CountedForks((fork) => (fork === 1 ? wrong : full));
    const [answered, failure] = await ask(cluster, new Turnstile(4));
    assert.deepEqual([answered, failure], [0, wrong]);
    assert.ok(cluster.forks <= 4, `${cluster.forks} forks`);
  });

  test('are not asked of a cluster that was started with other thresholds since', async () => {
    const same = new CountedForks(() => null);
    const [answered] = await ask(same, new Turnstile(4), { minference: RESOLVED });
    assert.equal(answered, QUESTIONS.length);
    const cluster = new CountedForks(() => null);
    const before = { minference: { ...RESOLVED, tilesPerBlock: 64 } };
    const [none, failure] = await ask(cluster, new Turnstile(4), before);
    assert.deepEqual([none, cluster.forks], [0, 0]);
    assert.match(String(failure), /tilesPerBlock of minference was 64, now 32; start it with/);
  });

  test('begin a bounded number at once, so that other documents have their turn', async () => {
    const turns = new Turnstile(2);
    const cluster = new CountedForks(() => null);
    const work = ask(cluster, turns);
    while (cluster.forks === 0) await tick();
    let forksBefore = -1;
    await turns.pass(async () => {
      forksBefore = cluster.forks;
      return Promise.resolve();
    });
    assert.ok(forksBefore < 6, `${forksBefore} questions went first`);
    const [answered] = await work;
    assert.equal(answered, QUESTIONS.length);
  });
});
