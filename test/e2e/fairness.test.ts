import assert from '../support/assert.js';
import { after, afterEach, before, test } from 'node:test';
import { startTestCluster, type TestCluster } from '../support/cluster.js';
import { needleSample } from '../support/needle-samples.js';
import { openCall, type OpenCall } from '../support/open-call.js';
import { poll } from '../support/poll.js';

/*
 * Who waits for whom is counted in chunks of the long prompt, not in seconds: that holds on a busy
 * machine too.
 */

/** A CPU chunk of the first 32,768 positions. */
const CHUNK_TOKENS = 2_048;
const LONG_TOKENS = 12 * CHUNK_TOKENS;
const SHORT_TOKENS = 500;
const SHORT_PROMPTS = 10;
/** A machine with other work may be far slower than an idle one. */
const PATIENCE_MS = 200_000;
/**
 * A short prompt waits for the chunk that runs when it comes, and its seal for one that may have
 * started before its own chunk had ended and been answered.
 */
const CHUNKS_WAITED = 2;

let cluster: TestCluster;
const calls: OpenCall[] = [];
before(async () => {
  cluster = await startTestCluster();
});
afterEach(async () => {
  for (const call of calls.splice(0)) call.leave();
  await poll(
    () => cluster.status(),
    ({ sessions }) => sessions.length === 0,
    5_000,
  );
});
after(async () => {
  await cluster.stop();
});

/** Asks for one token after `tokens` ids from somewhere else each time: no prompt begins alike. */
function ask(tokens: number, from: number, tenant = ''): OpenCall {
  const { ids } = needleSample(2);
  const some = Array.from({ length: tokens }, (_, at) => ids[(from + at) % ids.length] ?? 0);
  const call = openCall(cluster.client, { tenant, maxNewTokens: 1 }, some);
  calls.push(call);
  return call;
}

/** Chunks that a session has finished, and the share of the one that runs. */
function chunksOf({ events }: OpenCall): number {
  const progress = events.findLast((event) => event.progress)?.progress;
  return Number(progress?.processedTokens ?? 0) / CHUNK_TOKENS;
}

async function untilChunks(call: OpenCall, chunks: number): Promise<void> {
  await poll(
    () => chunksOf(call),
    (done) => done >= chunks,
    PATIENCE_MS,
  );
}

/** Chunks by which the long prompt went on until the call had its first token. */
async function waited(call: OpenCall, long: OpenCall, sinceChunks: number): Promise<number> {
  await poll(
    () => call.events.some(({ token }) => token),
    (came) => came,
    PATIENCE_MS,
    1,
  );
  return chunksOf(long) - sinceChunks;
}

test('short prompts that come one by one wait for about one chunk of a long one', async (t) => {
  const long = ask(LONG_TOKENS, 7);
  await untilChunks(long, 1);
  const waits: number[] = [];
  for (let at = 0; at < 4; at += 1) {
    const startedMs = performance.now();
    const since = Math.floor(chunksOf(long));
    waits.push(await waited(ask(SHORT_TOKENS, 1_000 * at), long, since));
    const ms = (performance.now() - startedMs).toFixed(0);
    t.diagnostic(`${ms} ms, in which the long prompt went on to ${chunksOf(long).toFixed(2)}`);
  }
  assert.ok(chunksOf(long) < LONG_TOKENS / CHUNK_TOKENS, 'the long prompt has ended');
  for (const chunks of waits) assert.ok(chunks <= CHUNKS_WAITED + 1, `${chunks} chunks`);
});

test('short prompts that come together wait for as little', async (t) => {
  const long = ask(LONG_TOKENS, 77);
  await untilChunks(long, 1);
  const since = Math.floor(chunksOf(long));
  const shorts = Array.from({ length: SHORT_PROMPTS }, (_, at) =>
    ask(SHORT_TOKENS, 1_000 * at + 500),
  );
  const waits = await Promise.all(shorts.map((short) => waited(short, long, since)));
  t.diagnostic(`chunks of the long prompt: ${waits.map((chunks) => chunks.toFixed(2)).join(' ')}`);
  for (const chunks of waits) assert.ok(chunks <= CHUNKS_WAITED + 1, `${chunks} chunks`);
});

test('a tenant with one session is served as many tokens as one with six', async (t) => {
  const many = Array.from({ length: 6 }, (_, at) => ask(LONG_TOKENS, 2_000 * at + 11, 'many'));
  const one = ask(LONG_TOKENS, 15_111, 'one');
  const ofMany = (): number => many.reduce((sum, call) => sum + chunksOf(call), 0);
  // From here on all of them have a chunk on the queue.
  await untilChunks(one, 1);
  await poll(ofMany, (chunks) => chunks >= 1, PATIENCE_MS);
  const before = { many: ofMany(), one: chunksOf(one) };
  await untilChunks(one, 5);
  const served = { many: ofMany() - before.many, one: chunksOf(one) - before.one };
  t.diagnostic(
    `chunks: ${served.many.toFixed(2)} of six sessions, ${served.one.toFixed(2)} of one`,
  );
  // At either end of the window a chunk of one tenant may have no partner yet; and one is under way.
  assert.ok(Math.abs(served.many - served.one) <= 3, JSON.stringify(served));
});
