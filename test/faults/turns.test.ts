import assert from '../support/assert.js';
import { statSync } from 'node:fs';
import { after, afterEach, before } from 'node:test';
import { unaryCall } from '../../services/platform/rpc/client.js';
import { assertSameAnswer, type FaultAnswer } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { faultPrompt } from '../support/fault-prompts.js';
import { faultTest } from '../support/fault-random.js';
import { needleSample } from '../support/needle-samples.js';

/* Work that was done once is used again: later turns, forks, and prompts that begin alike. */

const PROMPT = faultPrompt(3, 3_000);
const KEPT = { maxNewTokens: 24, keepSessionMs: '120000' };
const TURN_A = needleSample(0).prompt.slice(50, 250);
const TURN_B = needleSample(0).prompt.slice(400, 700);
/** More than a decode appends by itself. */
const LONG_TURN = needleSample(2).prompt.slice(100, 100 + 4_500);
const SHARED_TOKENS = 2_048;

let faults: FaultCluster;
before(async () => {
  faults = await FaultCluster.start({ routers: 2, workers: 2, decodes: 2 });
});
after(async () => {
  await faults.stop();
});
afterEach(async () => {
  const { sessions } = await faults.status();
  for (const { sessionId } of sessions) await release(sessionId);
  await faults.settle();
});

faultTest(
  'a fork and its original go on on their own, and share their segments',
  async (random) => {
    const first = await faults.call(KEPT, PROMPT).answer;
    const alone = await goOn(first.sessionId, TURN_A);
    await release(first.sessionId);

    const { sessionId } = await faults.call(KEPT, PROMPT).answer;
    const bytesBefore = storeBytes();
    const router = random.integer(0, 2);
    const fork = await unaryCall(
      faults.client(router),
      'fork',
      { sessionId, keepSessionMs: '60000' },
      { timeoutMs: 10_000 },
    );
    assert.match(fork.sessionId, /^[0-9a-f]{32}$/);
    assert.notEqual(fork.sessionId, sessionId);
    assert.equal(fork.tokens, String(PROMPT.length + KEPT.maxNewTokens));
    assert.equal(storeBytes(), bytesBefore);

    const [original, other] = await Promise.all([
      goOn(sessionId, TURN_A),
      goOn(fork.sessionId, TURN_B, router),
    ]);
    assertSameAnswer(original, alone);
    assert.notDeepEqual(other.ids, original.ids);
    await release(sessionId);
    // The fork lives on when its original is gone, also with a process of its own.
    await faults.cluster.restart('decode', await faults.decodeOf(fork.sessionId));
    const again = await goOn(fork.sessionId, TURN_A);
    assert.equal(again.ids.length, KEPT.maxNewTokens);
    await release(fork.sessionId);
  },
);

faultTest('a fork answers as its original would', async () => {
  const { sessionId } = await faults.call(KEPT, PROMPT).answer;
  const request = { sessionId };
  const fork = await unaryCall(faults.client(1), 'fork', request, { timeoutMs: 10_000 });
  assertSameAnswer(await goOn(fork.sessionId, TURN_A, 1), await goOn(sessionId, TURN_A));
});

faultTest('a prompt that begins as a kept one prefills only the rest', async () => {
  const similar = [...PROMPT.slice(0, SHARED_TOKENS + 100), ...PROMPT.slice(SHARED_TOKENS)];
  // A chunk of which log-probabilities are wanted runs, so they are asked of later ones.
  const header = { maxNewTokens: 24, promptLogprobs: [{ beginToken: '2049', endToken: '2100' }] };
  const alone = await faults.call(header, similar).answer;
  assert.equal(alone.finished.usage?.cachedTokens, '0');

  const kept = await faults.call({ ...KEPT, tenant: 'one' }, PROMPT).answer;
  const stranger = await faults.call({ ...header, tenant: 'two' }, similar).answer;
  assert.equal(stranger.finished.usage?.cachedTokens, '0');

  const call = faults.call({ ...header, tenant: 'one' }, similar, { router: 1 });
  const answer = await call.answer;
  assert.equal(answer.finished.usage?.cachedTokens, String(SHARED_TOKENS));
  assert.ok(call.events.some(({ progress }) => progress?.cachedTokens === String(SHARED_TOKENS)));
  assertSameAnswer(answer, alone);
  // What it shares outlives the session that made it.
  const next = faults.call({ ...KEPT, tenant: 'one' }, similar);
  await next.sees(({ progress }) => progress?.cachedTokens === String(SHARED_TOKENS));
  await release(kept.sessionId);
  assert.deepEqual((await next.answer).ids, alone.ids);
});

faultTest('a turn longer than decode appends goes through the lane', async (random) => {
  const first = await faults.call(KEPT, PROMPT).answer;
  const call = faults.call(
    { maxNewTokens: 24, continueSessionId: first.sessionId, keepSessionMs: '60000' },
    LONG_TURN,
    { router: random.integer(0, 2) },
  );
  const answer = await call.answer;
  const { usage, report } = answer.finished;
  const history = [...PROMPT, ...first.ids];
  assert.equal(usage?.promptTokens, String(history.length + LONG_TURN.length));
  assert.ok(Number(usage.cachedTokens) >= SHARED_TOKENS, usage.cachedTokens);
  assert.equal(report?.promptReran, false);
  const whole = await faults.call({ maxNewTokens: 24 }, [...history, ...LONG_TURN]).answer;
  assert.deepEqual(answer.ids, whole.ids);
  const next = await goOn(answer.sessionId, TURN_A);
  assert.equal(next.ids.length, KEPT.maxNewTokens);
});

faultTest('the next turn may come to another router', async () => {
  const { sessionId } = await faults.call(KEPT, PROMPT).answer;
  const there = await goOn(sessionId, TURN_A, 1);
  const back = await goOn(sessionId, TURN_B, 0);
  await release(sessionId);
  const other = await faults.call(KEPT, PROMPT).answer;
  assertSameAnswer(await goOn(other.sessionId, TURN_A), there);
  assertSameAnswer(await goOn(other.sessionId, TURN_B), back);
});

async function goOn(
  continueSessionId: string,
  ids: readonly number[],
  router = 0,
): Promise<FaultAnswer> {
  return faults.call({ ...KEPT, continueSessionId }, ids, { router }).answer;
}

async function release(sessionId: string): Promise<void> {
  await unaryCall(faults.client(), 'releaseSession', { sessionId }, { timeoutMs: 5_000 });
}

/** Bytes of the store, each file counted once however many names it has. */
function storeBytes(): number {
  const sizes = new Map<number, number>();
  for (const file of faults.storeFiles()) {
    const { ino, size } = statSync(faults.storePath(file));
    sizes.set(ino, size);
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}
