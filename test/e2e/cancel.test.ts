import assert from '../support/assert.js';
import { after, before, test } from 'node:test';
import { status as grpcStatus } from '@grpc/grpc-js';
import { unaryCall } from '../../services/platform/rpc/client.js';
import type { GetStatusResponse__Output } from '../../proto/gen/longshadow/router/v1/GetStatusResponse.js';
import { heldBy, startTestCluster, type TestCluster } from '../support/cluster.js';
import { generate, idParts } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';
import { isPrefillDone, openCall, type OpenCall } from '../support/open-call.js';
import { poll } from '../support/poll.js';

/** From the request to cancel to everything free. */
const FREE_WITHIN_MS = 500;

let cluster: TestCluster;
let baseline: string;
before(async () => {
  cluster = await startTestCluster();
  // Once through, so that what is allocated lazily is there.
  await generate(cluster.client, { maxNewTokens: 8 }, idParts(needleSample(0).prompt));
  const { members } = await poll(
    () => cluster.status(),
    ({ sessions, members: all }) =>
      sessions.length === 0 && all.every(({ mappings }) => mappings === '0'),
    5_000,
  );
  baseline = JSON.stringify(heldBy(members));
});
after(async () => {
  await cluster.stop();
});

function isFree({ sessions, members }: GetStatusResponse__Output): boolean {
  return sessions.length === 0 && JSON.stringify(heldBy(members)) === baseline;
}

/** Cancels by name; everything must be free in time and the client must hear why. */
async function cancels(call: OpenCall): Promise<void> {
  assert.equal(await cancelsAndFrees(call.events[0]?.sessionId ?? ''), true);
  const ended = await call.ended;
  assert.equal(ended?.code, grpcStatus.CANCELLED, ended?.details);
  assert.match(ended.details, /^CANCELLED: /);
}

async function cancelsAndFrees(sessionId: string): Promise<boolean> {
  const startedMs = performance.now();
  const request = { sessionId };
  const { cancelled } = await unaryCall(cluster.client, 'cancelSession', request, {
    timeoutMs: 10_000,
  });
  const left = Math.max(0, FREE_WITHIN_MS - (performance.now() - startedMs));
  await poll(() => cluster.status(), isFree, left);
  return cancelled;
}

const stateIs =
  (wanted: string) =>
  ({ sessions }: GetStatusResponse__Output): boolean =>
    sessions.some(({ state }) => state === wanted);

test('while it uploads', async () => {
  const call = openCall(cluster.client, {}, needleSample(1).prompt.slice(0, 5_000), false);
  await poll(
    () => cluster.status(),
    (status) =>
      stateIs('uploading')(status) && status.members.some(({ storeFiles }) => storeFiles !== '0'),
    60_000,
  );
  await cancels(call);
});

test('while it is queued', async () => {
  const others = [0, 1].map(() => openCall(cluster.client, {}, needleSample(2).prompt));
  for (const other of others) await other.sees(({ progress }) => isUnderWay(progress));
  const call = openCall(cluster.client, {}, needleSample(2).prompt);
  const { sessionId } = await call.sees(({ queued }) => (queued ?? null) !== null);
  await unaryCall(cluster.client, 'cancelSession', { sessionId }, { timeoutMs: FREE_WITHIN_MS });
  const { sessions } = await cluster.status();
  assert.ok(!sessions.some((session) => session.sessionId === sessionId));
  assert.equal((await call.ended)?.code, grpcStatus.CANCELLED);
  for (const other of others) other.leave();
  await poll(() => cluster.status(), isFree, FREE_WITHIN_MS);
});

test('in the middle of prefill', async () => {
  const call = openCall(cluster.client, {}, needleSample(2).prompt);
  await call.sees(({ progress }) => Number(progress?.processedTokens) > 4_000);
  assert.ok(!call.events.some(isPrefillDone));
  await cancels(call);
});

for (const afterMs of [0, 3, 6, 12]) {
  test(`${afterMs} ms after the last chunk: sealing, starting decode or decoding`, async () => {
    const call = openCall(cluster.client, { maxNewTokens: 4_000 }, needleSample(0).prompt);
    await call.sees(isPrefillDone);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await cancels(call);
  });
}

test('while it decodes', async () => {
  const call = openCall(cluster.client, { maxNewTokens: 4_000 }, needleSample(0).prompt);
  await call.sees(({ token }) => (token?.index ?? 0) >= 5);
  await cancels(call);
});

for (const afterMs of [0, 5]) {
  test(`${afterMs} ms into the append of a second turn`, async () => {
    const { sessionId } = await keptSession();
    const call = openCall(
      cluster.client,
      { maxNewTokens: 4_000, continueSessionId: sessionId },
      needleSample(1).prompt.slice(0, 100),
    );
    await call.sees(({ accepted }) => (accepted ?? null) !== null);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await cancels(call);
  });
}

test('while it is kept', async () => {
  const { sessionId } = await keptSession();
  assert.equal(await cancelsAndFrees(sessionId), true);
});

test('once more, after it has ended: nothing is done and nothing is wrong', async () => {
  const { sessionId } = await keptSession();
  assert.equal(await cancelsAndFrees(sessionId), true);
  assert.equal(await cancelsAndFrees(sessionId), false);
});

test('afterwards the cluster answers as before', async () => {
  const { prompt, answer } = needleSample(0);
  const result = await generate(cluster.client, { maxNewTokens: 20 }, idParts(prompt));
  assert.deepEqual(result.ids.slice(0, answer.length), answer);
});

async function keptSession(): Promise<{ readonly sessionId: string }> {
  const first = await generate(
    cluster.client,
    { maxNewTokens: 4, ignoreEos: true, keepSessionMs: 60_000 },
    idParts(needleSample(0).prompt.slice(0, 600)),
  );
  await poll(() => cluster.status(), stateIs('kept'), 2_000);
  return first;
}

function isUnderWay(progress: { processedTokens: string } | null | undefined): boolean {
  return Number(progress?.processedTokens) > 0;
}
