import { status as grpcStatus } from '@grpc/grpc-js';
import assert from '../support/assert.js';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, afterEach, before, suite } from 'node:test';
import { assertSameAnswer } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { faultPrompt } from '../support/fault-prompts.js';
import { faultTest } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';

/* Redis stops answering, loses everything, or dies and comes back with what it had. */

const PROMPT = faultPrompt();
const OTHER = faultPrompt(1);
const HEADER = { maxNewTokens: 300 };
const PAUSE_MS = 10_000;

let faults: FaultCluster;

suite('Redis without persistence', () => {
  before(async () => {
    faults = await FaultCluster.start({ routers: 2 });
    await faults.undisturbed(HEADER, PROMPT);
    await faults.undisturbed(HEADER, OTHER);
  });
  after(async () => {
    await faults.stop();
  });
  afterEach(async () => {
    await faults.settle();
  });

  faultTest('stopped for 10 s: all sessions finish', async (random) => {
    const decoding = faults.call(HEADER, PROMPT);
    await decoding.says(random.integer(1, 50));
    const prefilling = faults.call(HEADER, OTHER, { router: 1 });
    await prefilling.passes(random.between(1, OTHER.length / 2));
    const stoppedMs = performance.now();
    faults.redis.pause();
    try {
      await sleep(PAUSE_MS);
    } finally {
      faults.redis.goOn();
    }
    assertSameAnswer(await decoding.answer, await faults.undisturbed(HEADER, PROMPT));
    assertSameAnswer(await prefilling.answer, await faults.undisturbed(HEADER, OTHER));
    const waitedMs = await prefilling.recoveryMs(stoppedMs + PAUSE_MS);
    noteRecovery('Redis stopped for 10 s, after it goes on', waitedMs);
  });

  faultTest(
    'killed, empty at its return: sessions end, memory is free, new ones work',
    async (random) => {
      const decoding = faults.call({ maxNewTokens: 100_000 }, PROMPT);
      await decoding.says(random.integer(1, 50));
      const kept = await faults.call({ maxNewTokens: 2, keepSessionMs: '600000' }, PROMPT).answer;
      const prefilling = faults.call(HEADER, OTHER, { router: 1 });
      await prefilling.passes(random.between(1, OTHER.length / 2));
      await faults.redis.kill();
      const killedMs = performance.now();
      await faults.redis.startAgain();
      for (const call of [decoding, prefilling]) {
        const failure = await call.failure();
        assert.equal(failure.code, grpcStatus.UNAVAILABLE, failure.details);
        assert.match(failure.details, /^SESSION_LOST: /);
      }
      noteRecovery('Redis killed, empty: sessions are told', performance.now() - killedMs);
      await faults.isFree(15_000);
      noteRecovery('Redis killed, empty: memory is free', performance.now() - killedMs);
      assertSameAnswer(
        await faults.call(HEADER, PROMPT).answer,
        await faults.undisturbed(HEADER, PROMPT),
      );
      const gone = await faults.call({ continueSessionId: kept.sessionId }, [1, 2, 3]).failure();
      assert.equal(gone.code, grpcStatus.NOT_FOUND, gone.details);
    },
  );
});

suite('Redis with an append-only file', () => {
  before(async () => {
    faults = await FaultCluster.start({ routers: 2, redisKeepsData: true });
    await faults.undisturbed(HEADER, PROMPT);
    await faults.undisturbed(HEADER, OTHER);
  });
  after(async () => {
    await faults.stop();
  });
  afterEach(async () => {
    await faults.settle();
  });

  faultTest('killed and started again: sessions go on', async (random) => {
    const decoding = faults.call(HEADER, PROMPT);
    await decoding.says(random.integer(1, 50));
    const prefilling = faults.call(HEADER, OTHER, { router: 1 });
    await prefilling.passes(random.between(1, OTHER.length / 2));
    await faults.redis.kill();
    const killedMs = performance.now();
    await sleep(random.between(0, 3_000));
    await faults.redis.startAgain();
    assertSameAnswer(await decoding.answer, await faults.undisturbed(HEADER, PROMPT));
    assertSameAnswer(await prefilling.answer, await faults.undisturbed(HEADER, OTHER));
    noteRecovery('Redis killed, append-only file', await prefilling.recoveryMs(killedMs));
  });
});
