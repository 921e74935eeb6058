import { status as grpcStatus } from '@grpc/grpc-js';
import assert from '../support/assert.js';
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { after, afterEach, before } from 'node:test';
import { assertSameAnswer, type FaultCall } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { chunksOf, faultPrompt } from '../support/fault-prompts.js';
import { faultTest, type FaultRandom } from '../support/fault-random.js';
import { noteRecovery } from '../support/fault-report.js';
import { FaultWorkerProxy } from '../support/fault-worker-proxy.js';
import { freePort } from '../support/free-port.js';
import { sampleSum, scrape } from '../support/metrics-page.js';
import { needleSample } from '../support/needle-samples.js';

/*
 * Bytes are changed where they lie or on their way. The first time costs the session a new plan, the
 * second time ends it with DATA_LOSS; a wrong answer is never given.
 */

const PROMPT = faultPrompt();
const CHUNKS = chunksOf(PROMPT);
const HEADER = { maxNewTokens: 48 };
const LOSSES = 'longshadow_data_loss_total';

let faults: FaultCluster;
let proxy: FaultWorkerProxy;
let ports: { readonly router: number; readonly decode: number };
before(async () => {
  proxy = await FaultWorkerProxy.start();
  ports = { router: await freePort(), decode: await freePort() };
  faults = await FaultCluster.start({
    memberEnvironment: (role) =>
      role === 'worker'
        ? { WORKER_ADVERTISE: proxy.address }
        : { METRICS_LISTEN: `127.0.0.1:${String(ports[role])}` },
  });
  forward();
  await faults.undisturbed(HEADER, PROMPT);
});
after(async () => {
  await faults.stop();
  proxy.stop();
});
afterEach(async () => {
  proxy.toDamage = 0;
  await faults.settle();
  forward();
});

function forward(): void {
  proxy.forwardTo(faults.cluster.member('worker', 0).address);
}

for (const kind of ['k', 'v'] as const) {
  faultTest(
    `a byte of a segment's .${kind} file is flipped while its worker is away`,
    async (random) => {
      const call = faults.call(HEADER, PROMPT);
      await call.passes((CHUNKS[0]?.endToken ?? 0) + 1);
      const flippedMs = await flipWhileWorkerIsAway(call, 1, kind, random);
      await survivesOneLoss(call);
      noteRecovery('a flipped byte in a segment', await call.recoveryMs(flippedMs));
    },
  );
}

faultTest('bytes are flipped again under the new plan: DATA_LOSS', async (random) => {
  const call = faults.call(HEADER, PROMPT);
  const end = { came: false };
  const failure = call.failure().finally(() => {
    end.came = true;
  });
  await call.passes((CHUNKS[0]?.endToken ?? 0) + 1);
  while (!end.came) {
    const { epoch, dataLosses } = await faults.record(call.sessionId);
    if (faults.storeFiles().some((file) => isFirstSegment(file, call, epoch, 'k'))) {
      await flipWhileWorkerIsAway(call, epoch, 'k', random);
      await faults.recordWhere(
        call.sessionId,
        (now) => end.came || now.dataLosses > dataLosses || now.epoch > epoch,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { code, details } = await failure;
  assert.equal(code, grpcStatus.DATA_LOSS, details);
  assert.ok(!call.events.some(({ token }) => (token ?? null) !== null));
  assert.equal((await faults.record(call.sessionId)).dataLosses, 2);
});

faultTest('a byte of a segment is flipped before decode maps it', async (random) => {
  const call = faults.call(HEADER, PROMPT);
  const last = CHUNKS.at(-1);
  assert.ok(last);
  await call.passes(last.beginToken);
  const before = await lossesCounted();
  faults.pause('decode', 0);
  try {
    await faults.recordWhere(call.sessionId, ({ sealedTokens }) => sealedTokens > 0);
    flipByte(call, 1, 'v', random);
  } finally {
    faults.goOn('decode', 0);
  }
  await survivesOneLoss(call);
  const { router, decode } = await lossesCounted();
  assert.deepEqual([router - before.router, decode - before.decode], [1, 1]);
});

faultTest('a hand-off is damaged on its way: one new plan', async () => {
  proxy.toDamage = 1;
  const before = proxy.damaged;
  const call = faults.call(HEADER, PROMPT);
  await survivesOneLoss(call);
  assert.equal(proxy.damaged, before + 1);
});

faultTest('hand-offs are damaged again and again: DATA_LOSS', async () => {
  proxy.toDamage = 1_000;
  await endsWithDataLoss(faults.call(HEADER, PROMPT));
});

for (const [what, damage] of [
  ['another fingerprint', (data: string) => data.replace(/("fingerprint":")./, '$1g')],
  ['another position', (data: string) => data.replace(/("beginToken":)\d+/, '$1512000')],
  ['half of its text', (data: string) => data.slice(0, data.length / 2)],
] as const) {
  faultTest(`a job's payload becomes ${what}: it is rebuilt from the record`, async () => {
    const { call, other } = await queuedBehindAnother();
    assert.ok(await damageWaitingJob(call.sessionId, damage));
    await leaves(other);
    assertSameAnswer(await call.answer, await faults.undisturbed(HEADER, PROMPT));
    const { epoch, dataLosses } = await faults.record(call.sessionId);
    assert.deepEqual({ epoch, dataLosses }, { epoch: 1, dataLosses: 0 });
  });
}

faultTest('the payloads of its jobs are damaged again and again: DATA_LOSS', async () => {
  const { call, other } = await queuedBehindAnother();
  const end = { came: false };
  const failure = call.failure().finally(() => {
    end.came = true;
  });
  let damaged = 0;
  while (!end.came) {
    const isNew = await damageWaitingJob(call.sessionId, (data) =>
      data.replace(/("fingerprint":")[0-9a-f]/, '$1g'),
    );
    if (isNew) damaged += 1;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const { code, details } = await failure;
  assert.equal(code, grpcStatus.DATA_LOSS, details);
  assert.ok(damaged >= 3, String(damaged));
  assert.ok(!call.events.some(({ token }) => (token ?? null) !== null));
  await leaves(other);
});

faultTest('token ids in Redis are changed: never run, DATA_LOSS', async () => {
  const { call, other } = await queuedBehindAnother();
  await faults.redis.use(async (redis) => {
    const key = `longshadow:session:${call.sessionId}:tokens:0`;
    const bytes = await redis.getBuffer(key);
    assert.ok(bytes && bytes.length > 4_000);
    bytes.writeUInt8(bytes.readUInt8(2_000) ^ 1, 2_000);
    await redis.set(key, bytes, 'KEEPTTL');
  });
  await leaves(other);
  await endsWithDataLoss(call);
});

/** A session whose job waits while the worker runs the chunk of another one. */
async function queuedBehindAnother(): Promise<{
  readonly call: FaultCall;
  readonly other: FaultCall;
}> {
  const other = faults.call({ maxNewTokens: 1, tenant: 'other' }, needleSample(2).prompt);
  await other.passes(1);
  const call = faults.call(HEADER, PROMPT);
  await call.sees(({ queued }) => (queued ?? null) !== null);
  return { call, other };
}

/** @returns when the worker was back */
async function flipWhileWorkerIsAway(
  call: FaultCall,
  epoch: number,
  kind: 'k' | 'v',
  random: FaultRandom,
): Promise<number> {
  await faults.cluster.kill('worker', 0);
  flipByte(call, epoch, kind, random);
  await faults.cluster.restart('worker', 0);
  forward();
  return performance.now();
}

/** Changes one bit of the first segment of a plan. */
function flipByte(call: FaultCall, epoch: number, kind: 'k' | 'v', random: FaultRandom): void {
  const files = faults.storeFiles();
  const file = files.find((name) => isFirstSegment(name, call, epoch, kind));
  assert.ok(file, files.join('\n'));
  const descriptor = openSync(faults.storePath(file), 'r+');
  const { size } = fstatSync(descriptor);
  // Well behind the header and its table: data of a full page.
  const at = random.integer(size / 4, (size * 3) / 4);
  const byte = Buffer.alloc(1);
  readSync(descriptor, byte, 0, 1, at);
  byte.writeUInt8(byte.readUInt8() ^ (1 << random.integer(0, 8)));
  writeSync(descriptor, byte, 0, 1, at);
  closeSync(descriptor);
}

function isFirstSegment(
  file: string,
  { sessionId }: FaultCall,
  epoch: number,
  kind: 'k' | 'v',
): boolean {
  return file.startsWith(`${sessionId}/${epoch}-0-0-`) && file.endsWith(`.${kind}`);
}

async function survivesOneLoss(call: FaultCall): Promise<void> {
  const answer = await call.answer;
  assertSameAnswer(answer, await faults.undisturbed(HEADER, PROMPT));
  assert.ok(answer.interruptions.includes('DATA_LOSS'), answer.interruptions.join());
  const { epoch, dataLosses } = await faults.record(call.sessionId);
  assert.equal(dataLosses, 1);
  assert.ok(epoch >= 2);
}

/** `longshadow_data_loss_total`: sessions that the router planned again, blocks that decode refused. */
async function lossesCounted(): Promise<{ router: number; decode: number }> {
  const [router, decode] = await Promise.all([scrape(ports.router), scrape(ports.decode)]);
  return {
    router: sampleSum(router, LOSSES, { kind: 'session' }),
    decode: sampleSum(decode, LOSSES),
  };
}

async function endsWithDataLoss(call: FaultCall): Promise<void> {
  const failure = await call.failure();
  assert.equal(failure.code, grpcStatus.DATA_LOSS, failure.details);
  assert.match(failure.details, /^DATA_LOSS: /);
  assert.ok(!call.events.some(({ token }) => (token ?? null) !== null));
}

/** Ends a session that was there to keep the worker busy, unless it has ended. */
async function leaves(call: FaultCall): Promise<void> {
  call.leave();
  await call.answer.catch(() => undefined);
}

/**
 * Changes the payload of the session's job that waits on the worker's queue.
 *
 * @returns false if there is none, or it has been changed
 */
async function damageWaitingJob(
  sessionId: string,
  damage: (data: string) => string,
): Promise<boolean> {
  return faults.redis.use(async (redis) => {
    const keys = await redis.keys(`bull:longshadow-prefill-*:${sessionId}-*`);
    const key = keys.find((name) => !name.endsWith(':lock'));
    const data = key === undefined ? null : await redis.hget(key, 'data');
    if (key === undefined || data === null) return false;
    const damaged = damage(data);
    await redis.hset(key, 'data', damaged);
    return damaged !== data;
  });
}
