import { status as grpcStatus, type ServiceError } from '@grpc/grpc-js';
import assert from '../support/assert.js';
import { after, afterEach, before } from 'node:test';
import type { Priority } from '../../proto/gen/longshadow/router/v1/Priority.js';
import {
  decodeStatusDetails,
  STATUS_DETAILS_TRAILER,
} from '../../services/platform/rpc/status-details.js';
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
/** Prompts that race, and their first chunk. */
const RACE_TOKENS = IS_LONG ? 8_000 : 1_500;
const RACE_CHUNK_TOKENS = IS_LONG ? CHUNK_TOKENS : 1_024;

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
  await faults.settle();
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
    const queued = await short.sees(({ queued }) => (queued ?? null) !== null);
    const prefilled = await short.sees(isPrefillDone);
    const answered = await short.says(1);
    const waited = chunksBetween(long, queued, prefilled);
    assert.ok(waited <= 1, `${waited} chunks`);
    // Its hand-off is a job too, and waits for the chunk that began when its own chunk was done.
    const waitedInAll = chunksBetween(long, queued, answered);
    assert.ok(waitedInAll <= 2, `${waitedInAll} chunks`);
    noteRecovery('short prompt beside a long one: first token', answered.atMs - queued.atMs);
  }
  assert.ok(!long.events.some(isPrefillDone), 'the long prompt was too short to test anything');
});

faultTest('a tenant with three prompts gets as much as a tenant with one', async () => {
  const many = [1, 2, 3].map((variant) => send('many', variant, 4_000));
  for (const call of many) await call.sees(({ accepted }) => (accepted ?? null) !== null);
  const few = [send('few', 4, 4_000)];
  const { atMs } = await last(few);
  const tokens = tokensAt(many, atMs);
  assert.ok(tokens <= 4_000 + 2 * CHUNK_TOKENS, `${tokens} beside 4000`);
  await leave([...many, ...few]);
});

for (const [priority, isFirst] of [
  ['PRIORITY_HIGH', true],
  ['PRIORITY_LOW', false],
] as const) {
  faultTest(
    `${priority} gets ${isFirst ? 'four times' : 'a quarter of'} a normal share`,
    async () => {
      const variants = [1, 2, 3, 4];
      const normal = variants.map((variant) => send('one', variant, RACE_TOKENS));
      for (const call of normal) await call.sees(({ accepted }) => (accepted ?? null) !== null);
      const other = variants.map((variant) => send('two', variant + 4, RACE_TOKENS, priority));
      const [fast, slow] = isFirst ? [other, normal] : [normal, other];
      const { atMs } = await last(fast);
      const whole = variants.length * RACE_TOKENS;
      const tokens = tokensAt(slow, atMs);
      assert.ok(tokens <= whole / 4 + 3 * RACE_CHUNK_TOKENS, `${tokens} beside ${whole}`);
      await leave([...normal, ...other]);
    },
  );
}

faultTest('a full queue refuses new sessions, and says when to ask again', async () => {
  const calls: FaultCall[] = [];
  let refused: ServiceError | null = null;
  while (refused === null && calls.length < 2 * MOST_QUEUED) {
    const call = send(`tenant-${calls.length}`, calls.length, 8_000);
    refused = await Promise.race([
      call.failure(),
      call.sees(({ accepted }) => (accepted ?? null) !== null).then(() => null),
    ]);
    calls.push(call);
  }
  assert.equal(refused?.code, grpcStatus.RESOURCE_EXHAUSTED, refused?.details);
  assert.match(refused.details, /^QUEUE_FULL: /);
  assert.ok(calls.length > MOST_QUEUED, String(calls.length));
  const [details] = refused.metadata.get(STATUS_DETAILS_TRAILER);
  assert.ok(Buffer.isBuffer(details));
  assert.ok((decodeStatusDetails(details).retryAfterMs ?? 0) > 0);
  await leave(calls);
});

function send(tenant: string, variant: number, tokens: number, priority?: Priority): FaultCall {
  const header = { maxNewTokens: 1, tenant };
  return faults.call(
    priority === undefined ? header : { ...header, priority },
    faultPrompt(variant, tokens),
  );
}

/** The end of the last prefill of several. */
async function last(calls: readonly FaultCall[]): Promise<SeenEvent> {
  const ends = await Promise.all(calls.map(async (call) => call.sees(isPrefillDone)));
  return ends.reduce((latest, end) => (end.atMs > latest.atMs ? end : latest));
}

function tokensAt(calls: readonly FaultCall[], atMs: number): number {
  return calls.reduce((sum, call) => sum + processedAt(call, atMs), 0);
}

async function leave(calls: readonly FaultCall[]): Promise<void> {
  for (const call of calls) call.leave();
  await Promise.allSettled(calls.map(async ({ answer }) => answer));
}

function processedAt(call: FaultCall, atMs: number): number {
  const before = call.seen.filter((seen) => seen.atMs <= atMs);
  const last = before.findLast(({ event }) => (event.progress ?? null) !== null);
  return Number(last?.event.progress?.processedTokens ?? 0);
}

/** Chunks of a prompt that were finished between two events of another one. */
function chunksBetween(call: FaultCall, from: SeenEvent, to: SeenEvent): number {
  const ends = call.seen
    .filter(({ atMs }) => atMs > from.atMs && atMs < to.atMs)
    .map(({ event }) => Number(event.progress?.processedTokens ?? 1))
    .filter((tokens) => tokens % CHUNK_TOKENS === 0);
  return new Set(ends).size;
}

function longPrompt(): number[] {
  const { prompt } = needleSample(2);
  const ids: number[] = [];
  while (ids.length < LONG_TOKENS) ids.push(...prompt);
  return ids.slice(0, LONG_TOKENS);
}
