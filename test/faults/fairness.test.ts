import { status as grpcStatus } from '@grpc/grpc-js';
import assert from '../support/assert.js';
import { after, afterEach, before } from 'node:test';
import type { Priority } from '../../proto/gen/longshadow/router/v1/Priority.js';
import type { FaultCall, SeenEvent } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { faultPrompt } from '../support/fault-prompts.js';
import { faultTest, IS_LONG } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';
import { isPrefillDone } from '../support/open-call.js';
import { needleSample } from '../support/needle-samples.js';

/* Tenants share one worker by tokens; the unit that one waits for is a chunk. */

const MOST_QUEUED = 24;
const SHORT_PROMPTS = IS_LONG ? 20 : 8;
const SHORT_TOKENS = 500;
const LONG_TOKENS = IS_LONG ? 131_072 : 16_000;
const CHUNK_TOKENS = 2_048;

let faults: FaultCluster;
before(async () => {
  faults = await FaultCluster.start({
    environment: { ROUTER_MAX_QUEUED_JOBS: String(MOST_QUEUED) },
  });
});
after(async () => {
  await faults.stop();
});
afterEach(async () => {
  await faults.isFree();
});

faultTest('short prompts wait at most for the chunk that runs', async (random) => {
  const long = faults.call({ maxNewTokens: 1, tenant: 'long' }, longPrompt());
  await long.passes(random.between(1, CHUNK_TOKENS));
  const shorts: FaultCall[] = [];
  for (let index = 0; index < SHORT_PROMPTS; index += 1) {
    const ids = faultPrompt(index, SHORT_TOKENS);
    shorts.push(faults.call({ maxNewTokens: 1, tenant: `short-${index}` }, ids));
    await new Promise((resolve) => setTimeout(resolve, random.between(0, 100)));
  }
  for (const short of shorts) {
    const accepted = await short.sees(({ accepted }) => (accepted ?? null) !== null);
    const prefilled = await short.sees(isPrefillDone);
    const answered = await short.says(1);
    assert.ok(chunksBetween(long, accepted, prefilled) <= 1);
    // Its hand-off is a job too, and waits for the chunk that began when its own chunk was done.
    assert.ok(chunksBetween(long, accepted, answered) <= 2);
    noteRecovery('short prompt beside a long one: first token', answered.atMs - accepted.atMs);
  }
  assert.ok(!long.events.some(isPrefillDone), 'the long prompt was too short to test anything');
  long.leave();
  await long.failure();
});

faultTest('a tenant with three prompts gets as much as a tenant with one', async () => {
  const { many, few } = await race('PRIORITY_NORMAL');
  assert.ok(many <= few + 2 * CHUNK_TOKENS, `${many} of ${few}`);
});

faultTest('a high priority gets four times as much, a low one a quarter', async () => {
  const high = await race('PRIORITY_HIGH');
  assert.ok(high.many <= high.few / 4 + 2 * CHUNK_TOKENS, `${high.many} of ${high.few}`);
  const low = await race('PRIORITY_LOW');
  assert.ok(low.many >= Math.min(3, 4) * low.few - 2 * CHUNK_TOKENS, `${low.many} of ${low.few}`);
});

faultTest('a full queue refuses new sessions, and says when to ask again', async () => {
  const calls: FaultCall[] = [];
  for (let index = 0; index < MOST_QUEUED + 4; index += 1) {
    const header = { maxNewTokens: 1, tenant: `tenant-${index % 3}` };
    calls.push(faults.call(header, faultPrompt(index, 2_600)));
  }
  const last = calls.at(-1);
  assert.ok(last);
  for (const call of calls.slice(0, MOST_QUEUED)) {
    await call.sees(({ accepted }) => (accepted ?? null) !== null);
  }
  const late = await faults.call({ maxNewTokens: 1 }, faultPrompt(99, 2_600)).failure();
  assert.equal(late.code, grpcStatus.RESOURCE_EXHAUSTED, late.details);
  assert.match(late.details, /^QUEUE_FULL: /);
  for (const call of calls) call.leave();
  await Promise.allSettled(calls.map(async ({ answer }) => answer));
});

/** One tenant sends three prompts, then another one sends one: tokens run of each when that is done. */
async function race(priority: Priority): Promise<{ readonly many: number; readonly few: number }> {
  const ids = faultPrompt(7, 4_000);
  const calls = [1, 2, 3].map((variant) =>
    faults.call({ maxNewTokens: 1, tenant: 'many' }, faultPrompt(variant, 4_000)),
  );
  for (const call of calls) await call.sees(({ accepted }) => (accepted ?? null) !== null);
  const alone = faults.call({ maxNewTokens: 1, tenant: 'few', priority }, ids);
  const { atMs } = await alone.sees(isPrefillDone);
  const many = calls.map((call) => processedAt(call, atMs)).reduce((sum, one) => sum + one, 0);
  for (const call of calls) call.leave();
  await Promise.allSettled([...calls, alone].map(async ({ answer }) => answer));
  return { many, few: ids.length };
}

function processedAt(call: FaultCall, atMs: number): number {
  const before = call.seen.filter((seen) => seen.atMs <= atMs);
  const last = before.findLast(({ event }) => (event.progress ?? null) !== null);
  return Number(last?.event.progress?.processedTokens ?? 0);
}

/** Chunks of a prompt that were finished between two events of another one. */
function chunksBetween(call: FaultCall, from: SeenEvent, to: SeenEvent): number {
  return call.seen.filter(({ event, atMs }) => {
    const processed = Number(event.progress?.processedTokens ?? 1);
    return atMs > from.atMs && atMs < to.atMs && processed % CHUNK_TOKENS === 0;
  }).length;
}

function longPrompt(): number[] {
  const { prompt } = needleSample(2);
  const ids: number[] = [];
  while (ids.length < LONG_TOKENS) ids.push(...prompt);
  return ids.slice(0, LONG_TOKENS);
}
