import { status as grpcStatus } from '@grpc/grpc-js';
import assert from '../support/assert.js';
import { after, afterEach, before } from 'node:test';
import { unaryCall } from '../../services/platform/rpc/client.js';
import type { FaultCall } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { faultPrompt } from '../support/fault-prompts.js';
import { faultTest } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';

/*
 * A session ends while the cluster recovers, or at its deadline: everything is free in time. Without
 * a fault, test/e2e/cancel.test.ts and test/e2e/disconnect.test.ts go through the phases.
 */

const FREE_WITHIN_MS = 500;
const PROMPT = faultPrompt();
const ENDLESS = { maxNewTokens: 100_000 };

let faults: FaultCluster;
before(async () => {
  faults = await FaultCluster.start({ routers: 2, workers: 2, decodes: 2 });
  await faults.call({ maxNewTokens: 4 }, PROMPT).answer;
  await faults.isFree();
});
after(async () => {
  await faults.stop();
});
afterEach(async () => {
  await faults.settle();
});

faultTest('cancelled while its worker is dead', async (random) => {
  const call = faults.call(ENDLESS, PROMPT);
  await call.passes(random.between(1, PROMPT.length * 0.9));
  await faults.cluster.kill('worker', await faults.workerOf(call.sessionId));
  await pause(random.between(0, 500));
  await cancels(call, 0);
});

faultTest('cancelled while its decode is dead', async (random) => {
  const call = faults.call(ENDLESS, PROMPT);
  await call.says(random.integer(1, 50));
  await faults.cluster.kill('decode', await faults.decodeOf(call.sessionId));
  await pause(random.between(0, 500));
  await cancels(call, 0);
});

faultTest('cancelled at a router that does not drive it, in prefill', async (random) => {
  const call = faults.call(ENDLESS, PROMPT);
  await call.passes(random.between(1, PROMPT.length * 0.9));
  await cancels(call, 1);
});

faultTest('cancelled at a router that does not drive it, in decode', async (random) => {
  const call = faults.call(ENDLESS, PROMPT);
  await call.says(random.integer(1, 50));
  await cancels(call, 1);
});

faultTest('cancelled after another router has taken it over', async (random) => {
  const call = faults.call(ENDLESS, PROMPT);
  const { event } = await call.says(random.integer(1, 50));
  await faults.cluster.kill('router', 0);
  const seen = Number(event.sequence);
  await call.sees(({ sequence }) => Number(sequence) > seen + 100 && call.resumes > 0);
  await pause(6_000);
  await cancels(call, 1);
});

faultTest('a client that came back with Resume is gone for good', async (random) => {
  const header = { ...ENDLESS, resumeGraceMs: '0' };
  const call = faults.call(header, PROMPT);
  await call.says(random.integer(1, 50));
  await faults.cluster.kill('router', 0);
  await call.sees(() => call.resumes > 0 && (call.events.at(-1)?.token ?? null) !== null);
  await pause(7_000);
  const goneMs = performance.now();
  call.leave();
  await faults.memoryIsFree(FREE_WITHIN_MS);
  noteRecovery('client gone: everything is free', performance.now() - goneMs);
});

for (const [phase, newTokens, deadlineMs] of [
  ['prefill', 100_000, 250],
  ['decode', 100_000, 8_000],
] as const) {
  faultTest(`its deadline passes in ${phase}`, async (random) => {
    const prompt = phase === 'prefill' ? PROMPT : PROMPT.slice(0, 600);
    const inMs = deadlineMs + random.integer(0, 250);
    const sentMs = performance.now();
    const call = faults.call({ maxNewTokens: newTokens, deadlineMs: String(inMs) }, prompt);
    const failure = await call.failure();
    assert.equal(failure.code, grpcStatus.DEADLINE_EXCEEDED, failure.details);
    assert.equal(
      call.events.some(({ token }) => (token ?? null) !== null),
      phase === 'decode',
    );
    await faults.memoryIsFree(FREE_WITHIN_MS);
    const tookMs = performance.now() - sentMs;
    assert.ok(tookMs >= inMs - 50 && tookMs < inMs + 2 * FREE_WITHIN_MS, String(tookMs));
  });
}

async function cancels(call: FaultCall, router: number): Promise<void> {
  const askedMs = performance.now();
  const request = { sessionId: call.sessionId };
  const answer = unaryCall(faults.client(router), 'cancelSession', request, { timeoutMs: 5_000 });
  await faults.memoryIsFree(FREE_WITHIN_MS);
  noteRecovery('cancelled: everything is free', performance.now() - askedMs);
  assert.equal((await answer).cancelled, true);
  const failure = await call.failure();
  assert.equal(failure.code, grpcStatus.CANCELLED, failure.details);
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
