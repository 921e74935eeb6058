import assert from '../../../support/assert.js';
import { after, before, beforeEach, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { Redis } from 'ioredis';
import { redisOptions } from '../../../../services/platform/redis-url.js';
import { unaryCall } from '../../../../services/platform/rpc/client.js';
import { eventually, generate, type RouterWorld, startRouterWorld } from './router-world.js';

const ids = (count: number): number[] => Array.from({ length: count }, (_, i) => (i % 4_000) + 4);

describe('Generate', () => {
  let world: RouterWorld;
  before(async () => {
    world = await startRouterWorld();
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(() => {
    world.worker.jobs.length = 0;
    world.worker.gate = async () => Promise.resolve();
    world.decode.gate = async () => Promise.resolve();
    world.decode.startGate = async () => Promise.resolve();
  });

  test('runs a prompt in chunks, seals it, decodes it and streams the answer', async () => {
    const call = generate(world, {
      maxPromptTokens: 8_192,
      maxNewTokens: 16,
      promptLogprobs: [{ beginToken: 0, endToken: 10_000 }],
    });
    call.send({ tokenIds: { ids: ids(5_000) } });
    call.close();
    assert.equal(await call.ended, null);
    const sessionId = call.responses[0]?.sessionId ?? '';
    const jobs = world.worker.jobs.filter((job) => job.sessionId === sessionId);
    assert.deepEqual(
      jobs.map(({ kind, beginToken, endToken }) => [kind, beginToken, endToken]),
      [
        ['prefill', 0, 2_048],
        ['prefill', 2_048, 4_096],
        ['prefill', 4_096, 4_608],
        ['prefill', 4_608, 5_000],
        ['seal', 5_000, 5_000],
      ],
    );
    assert.deepEqual(
      jobs.map(({ nextTokenId }) => nextTokenId),
      [ids(5_000)[2_048], ids(5_000)[4_096], ids(5_000)[4_608], null, null],
    );
    assert.deepEqual(
      jobs.map(({ promptLogprobs }) => promptLogprobs),
      [
        [{ beginToken: 1, endToken: 2_049 }],
        [{ beginToken: 2_049, endToken: 4_097 }],
        [{ beginToken: 4_097, endToken: 4_609 }],
        [{ beginToken: 4_609, endToken: 5_000 }],
        [],
      ],
    );
    assert.deepEqual(
      call.responses.map(({ event }) => event),
      ['accepted', 'token', 'token', 'token', 'finished'],
    );
    assert.deepEqual(
      call.responses.map(({ sequence }) => sequence),
      ['1', '2', '3', '4', '5'],
    );
    const accepted = call.responses[0]?.accepted;
    assert.equal(accepted?.reservedTokens, '8208');
    assert.equal(accepted.reservedBytes, String(Math.ceil(8_208 / 512) * 512 * 1_000));
    const finished = call.responses.at(-1)?.finished;
    assert.equal(finished?.usage?.promptTokens, '5000');
    assert.equal(finished.report?.segmentBytes, String(5_000 * 1_000));
    assert.deepEqual(finished.report.workerIds, ['worker-1']);
    const stored = await world.store.tokenIds.get(sessionId, 0, 5_000);
    assert.deepEqual([...stored], ids(5_000));
  });

  test('frees memory at both members and gives the reservation back after the answer', async () => {
    const call = generate(world, { maxPromptTokens: 1_000, maxNewTokens: 16 });
    call.send({ text: Buffer.from('A question.') });
    call.close();
    assert.equal(await call.ended, null);
    const sessionId = call.responses[0]?.sessionId ?? '';
    await eventually('the session is left', () => world.driver.find(sessionId) === null);
    assert.ok(world.worker.releases.some((release) => release.sessionId === sessionId));
    assert.ok(world.decode.releases.includes(sessionId));
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
    assert.equal((await world.store.records.load(sessionId))?.state, 'finished');
    assert.deepEqual(await world.store.records.activeSessionIds(), []);
  });

  test('reserves no more than the prompt and its answer need once the upload is closed', async () => {
    world.worker.gate = async () => new Promise(() => undefined);
    const call = generate(world, { maxNewTokens: 16 });
    const { sessionId } = await call.until(({ event }) => event === 'accepted');
    const reserved = async (): Promise<number> => world.store.reservations.reservedBytes('store-1');
    assert.equal(await reserved(), Math.ceil((131_072 + 16) / 512) * 512 * 1_000);
    call.send({ tokenIds: { ids: ids(1_000) } });
    call.close();
    await eventually('memory is given back', async () => (await reserved()) === 1_024_000);
    await eventually('the record says so', async () => {
      const record = await world.store.records.load(sessionId);
      return record?.reservation?.bytes === 1_024_000 && record.reservation.tokens === 1_016;
    });
    call.cancel();
    await eventually('the session is left', () => world.driver.find(sessionId) === null);
    assert.equal(await reserved(), 0);
  });

  test('starts chunks while the upload is open, with 128 tokens held back', async () => {
    const call = generate(world, { maxNewTokens: 16 });
    call.send({ tokenIds: { ids: ids(2_175) } });
    await call.until(({ event }) => event === 'accepted');
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(world.worker.jobs.length, 0);
    call.send({ tokenIds: { ids: ids(1) } });
    await eventually('the first chunk runs', () => world.worker.jobs.length === 1);
    assert.equal(world.worker.jobs.at(0)?.totalTokens, null);
    assert.equal(world.worker.jobs.at(0)?.endToken, 2_048);
    call.close();
    assert.equal(await call.ended, null);
    assert.equal(world.worker.jobs.at(-1)?.totalTokens, 2_176);
  });

  test('passes what the header asks for to decode', async () => {
    const call = generate(world, {
      maxNewTokens: 7,
      sampling: { temperature: 0.5, topK: 3, topP: 0.25, seed: '18446744073709551615' },
      stop: ['END'],
      ignoreEos: true,
      forcedTokens: [5, 6],
    });
    call.send({ text: Buffer.from('x') });
    call.close();
    assert.equal(await call.ended, null);
    assert.deepEqual(world.decode.starts.at(-1)?.generation, {
      sampling: { temperature: 0.5, topK: 3, topP: 0.25, seed: '18446744073709551615' },
      stopping: { maxNewTokens: 7, stopTexts: ['END'], ignoreEos: true },
      forcedTokenIds: [5, 6],
      promptLogprobs: [],
    });
  });

  test('tells that other jobs are ahead', async () => {
    let open: () => void = () => undefined;
    world.worker.gate = async () =>
      new Promise((resolve) => {
        open = resolve;
      });
    const first = generate(world, { maxNewTokens: 4 });
    first.send({ text: Buffer.from('first') });
    first.close();
    await eventually('the first job runs', () => world.worker.jobs.length === 1);
    const second = generate(world, { maxNewTokens: 4 });
    second.send({ text: Buffer.from('second') });
    second.close();
    const queued = await second.until(({ event }) => event === 'queued');
    assert.equal(queued.queued?.jobsAhead, 1);
    world.worker.gate = async () => Promise.resolve();
    open();
    assert.equal(await first.ended, null);
    assert.equal(await second.ended, null);
  });

  test('GenerateText gives the same answer in one call', async () => {
    const answer = await unaryCall(
      world.client,
      'generateText',
      {
        header: { model: 'needle' },
        parts: [{ message: { role: 'user', content: Buffer.from('Hi') } }],
      },
      { timeoutMs: 10_000 },
    );
    assert.equal(answer.text, 't10 t11 t3 ');
    assert.deepEqual(
      answer.tokens.map(({ tokenId }) => tokenId),
      [10, 11, 3],
    );
  });

  test('GetStatus passes over a record that it cannot read', async () => {
    const call = generate(world, { resumeGraceMs: String(2n ** 60n) });
    const { sessionId } = await call.until(({ event }) => event === 'accepted');
    const foreign = 'f'.repeat(32);
    const redis = new Redis(redisOptions(world.redis.url));
    await redis.hset(`longshadow:session:${foreign}`, 'record', '{"schemaVersion":2}');
    await redis.sadd('longshadow:sessions', foreign);
    try {
      const answer = await unaryCall(world.client, 'getStatus', {}, { timeoutMs: 5_000 });
      assert.deepEqual(
        answer.sessions.map((session) => session.sessionId),
        [sessionId],
      );
    } finally {
      await redis.srem('longshadow:sessions', foreign);
      await redis.quit();
      call.cancel();
      await eventually('the session is left', () => world.driver.find(sessionId) === null);
    }
  });

  const refusals = [
    {
      name: 'an unknown model',
      header: { model: 'gpt' },
      code: status.NOT_FOUND,
      says: /UNKNOWN_MODEL.*needle/,
    },
    {
      name: 'no tile for sparse prefill',
      header: {
        prefillPolicy: 'PREFILL_POLICY_MINFERENCE' as const,
        sparsePrefill: { tilesPerBlock: 0 },
      },
      code: status.INVALID_ARGUMENT,
      says: /BAD_REQUEST: sparse_prefill.tiles_per_block/,
    },
    {
      name: 'thresholds of sparse prefill for a dense session',
      header: { sparsePrefill: { denseBelowTokens: 0 } },
      code: status.INVALID_ARGUMENT,
      says: /BAD_REQUEST: sparse_prefill .* the prefill policy is dense/,
    },
    {
      name: 'a cache policy that is not built',
      header: { cachePolicy: 'CACHE_POLICY_SHADOWKV' as const },
      code: status.UNIMPLEMENTED,
      says: /POLICY_NOT_AVAILABLE.*full/,
    },
    {
      name: 'a negative deadline',
      header: { deadlineMs: -1 },
      code: status.INVALID_ARGUMENT,
      says: /INVALID_DEADLINE/,
    },
    {
      name: 'a negative temperature',
      header: { sampling: { temperature: -0.5 } },
      code: status.INVALID_ARGUMENT,
      says: /INVALID_SAMPLING: sampling.temperature/,
    },
  ];
  for (const { name, header, code, says } of refusals.filter(
    (refusal) => refusal.code !== status.OK,
  )) {
    test(`refuses ${name} before any work`, async () => {
      const call = generate(world, header);
      const error = await call.ended;
      assert.equal(error?.code, code);
      assert.match(error.details, says);
      assert.deepEqual(call.responses, []);
      assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
    });
  }
});
