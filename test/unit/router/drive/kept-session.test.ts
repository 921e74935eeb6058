import assert from '../../../support/assert.js';
import { randomBytes } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { newRecord } from '../../../support/session-record.js';
import { unaryCall } from '../../../../services/platform/rpc/client.js';
import {
  eventually,
  generate,
  type GenerateCall,
  type RouterWorld,
  startRouterWorld,
} from './router-world.js';

const ids = (count: number): number[] => Array.from({ length: count }, (_, i) => (i % 4_000) + 4);

describe('a kept session', () => {
  let world: RouterWorld;
  before(async () => {
    world = await startRouterWorld();
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(() => {
    world.worker.releases.length = 0;
    world.decode.releases.length = 0;
    world.decode.turns.length = 0;
    world.decode.gate = async () => Promise.resolve();
  });

  async function firstTurn(
    keepSessionMs: number,
  ): Promise<{ call: GenerateCall; sessionId: string }> {
    const call = generate(world, { maxPromptTokens: 200, maxNewTokens: 16, keepSessionMs });
    call.send({ message: { role: 'user', content: Buffer.from('A question?') } });
    call.close();
    assert.equal(await call.ended, null);
    return { call, sessionId: call.responses[0]?.sessionId ?? '' };
  }

  function nextTurn(sessionId: string, header = {}): GenerateCall {
    return generate(world, {
      maxNewTokens: 16,
      keepSessionMs: 20_000,
      continueSessionId: sessionId,
      ...header,
    });
  }

  test('holds its memory until its time, then frees it', async () => {
    const { sessionId } = await firstTurn(300);
    await eventually('it is kept', () => world.driver.find(sessionId)?.record.state === 'kept');
    assert.deepEqual(world.worker.releases, []);
    assert.notEqual(await world.store.reservations.reservedBytes('store-1'), 0);
    await eventually('it is freed', () => world.driver.find(sessionId) === null);
    assert.equal((await world.store.records.load(sessionId))?.state, 'finished');
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
  });

  test('is freed by ReleaseSession, once', async () => {
    const { sessionId } = await firstTurn(20_000);
    await eventually('it is kept', () => world.driver.find(sessionId)?.record.state === 'kept');
    const release = async (): Promise<boolean> =>
      (await unaryCall(world.client, 'releaseSession', { sessionId }, { timeoutMs: 5_000 }))
        .released;
    assert.equal(await release(), true);
    assert.ok(world.decode.releases.includes(sessionId));
    assert.equal(await release(), false);
  });

  test('takes another turn: its ids follow the answer, its events follow the first turn’s', async () => {
    const { call, sessionId } = await firstTurn(20_000);
    const usage = call.responses.at(-1)?.finished?.usage;
    const cached = Number(usage?.promptTokens) + 3;
    const next = nextTurn(sessionId, { sampling: { temperature: 0.5, seed: '5' } });
    next.send({ message: { role: 'user', content: Buffer.from('And then?') } });
    next.close();
    assert.equal(await next.ended, null);
    const turn = world.decode.turns.at(-1);
    // <|end|> (3) was generated and is not repeated; "\n<|user|>" and "<|assistant|>" are the template's.
    assert.equal(turn?.tokenIds.includes(3), false);
    assert.ok(turn.tokenIds.includes(1));
    assert.equal(turn.tokenIds.at(-1), 2);
    assert.equal(turn.context.cachedTokens, cached);
    assert.equal(turn.context.promptTokens, cached + turn.tokenIds.length);
    assert.equal(turn.generation.sampling.seed, '5');
    assert.deepEqual(
      next.responses.map(({ event }) => event),
      ['accepted', 'token', 'token', 'token', 'finished'],
    );
    assert.deepEqual(
      next.responses.map(({ sequence }) => sequence),
      ['6', '7', '8', '9', '10'],
    );
    await eventually(
      'it is kept again',
      () => world.driver.find(sessionId)?.record.state === 'kept',
    );
    assert.equal(world.driver.find(sessionId)?.record.turn.number, 1);
    await unaryCall(world.client, 'releaseSession', { sessionId }, { timeoutMs: 5_000 });
  });

  test('reserves more memory for a turn that passes its reservation', async () => {
    const { sessionId } = await firstTurn(20_000);
    const before = await world.store.reservations.reservedBytes('store-1');
    const next = nextTurn(sessionId, { keepSessionMs: 20_000 });
    next.send({ tokenIds: { ids: ids(4_096) } });
    next.close();
    assert.equal(await next.ended, null);
    assert.deepEqual(world.decode.turns.at(-1)?.tokenIds, ids(4_096));
    assert.ok((await world.store.reservations.reservedBytes('store-1')) > before);
    await unaryCall(world.client, 'releaseSession', { sessionId }, { timeoutMs: 5_000 });
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
  });

  const badTurns = [
    {
      name: 'of bytes that are not UTF-8',
      part: { text: Buffer.from([0xff]) },
      code: status.INVALID_ARGUMENT,
      says: /INVALID_UTF8/,
    },
    {
      name: 'without content',
      part: { text: Buffer.alloc(0) },
      code: status.INVALID_ARGUMENT,
      says: /EMPTY_PROMPT/,
    },
  ];
  for (const { name, part, code, says } of badTurns) {
    test(`refuses a turn ${name} and stays as it was`, async () => {
      const { sessionId } = await firstTurn(20_000);
      const bad = nextTurn(sessionId);
      bad.send(part);
      bad.close();
      const error = await bad.ended;
      assert.equal(error?.code, code);
      assert.match(error.details, says);
      const good = nextTurn(sessionId, { keepSessionMs: 0 });
      good.send({ text: Buffer.from('more') });
      good.close();
      assert.equal(await good.ended, null);
      await eventually('it is freed', () => world.driver.find(sessionId) === null);
    });
  }

  test('takes one turn at a time', async () => {
    const { sessionId } = await firstTurn(20_000);
    let open: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      open = resolve;
    });
    world.decode.gate = async () => held;
    const running = nextTurn(sessionId, { keepSessionMs: 0 });
    running.send({ text: Buffer.from('more') });
    running.close();
    await running.until(({ event }) => event === 'accepted');
    const error = await nextTurn(sessionId).ended;
    assert.equal(error?.code, status.FAILED_PRECONDITION);
    assert.match(error.details, /SESSION_BUSY/);
    open();
    assert.equal(await running.ended, null);
  });

  test('is freed when the client goes during a later turn', async () => {
    const { sessionId } = await firstTurn(20_000);
    world.decode.gate = async () => new Promise(() => undefined);
    const next = nextTurn(sessionId);
    next.send({ text: Buffer.from('more') });
    next.close();
    await next.until(({ event }) => event === 'accepted');
    next.cancel();
    await eventually('it is freed', () => world.driver.find(sessionId) === null);
    assert.equal((await world.store.records.load(sessionId))?.state, 'cancelled');
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
  });

  test('outlives the grace of a client that left an earlier turn', async () => {
    let open: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      open = resolve;
    });
    world.decode.gate = async () => held;
    const left = generate(world, {
      maxPromptTokens: 200,
      maxNewTokens: 16,
      keepSessionMs: 20_000,
      onDisconnect: 'ON_DISCONNECT_KEEP',
      resumeGraceMs: 400,
    });
    left.send({ text: Buffer.from('A question?') });
    left.close();
    const { sessionId } = await left.until(({ event }) => event === 'accepted');
    const state = (): string | undefined => world.driver.find(sessionId)?.record.state;
    await eventually('it decodes', () => state() === 'decoding');
    left.cancel();
    await left.ended;
    open();
    await eventually('it is kept', () => state() === 'kept');

    world.decode.gate = async () => new Promise((resolve) => setTimeout(resolve, 250));
    const next = nextTurn(sessionId, { keepSessionMs: 0 });
    next.send({ text: Buffer.from('more') });
    next.close();
    assert.equal(await next.ended, null);
    await eventually('it is left', () => world.driver.find(sessionId) === null);
  });

  describe('of another router', () => {
    const call = async (
      method: 'cancelSession' | 'releaseSession',
      sessionId: string,
    ): Promise<{ cancelled?: boolean; released?: boolean }> =>
      unaryCall(world.client, method, { sessionId }, { timeoutMs: 5_000 });

    async function keptElsewhere(state: 'kept' | 'decoding'): Promise<string> {
      const sessionId = randomBytes(16).toString('hex');
      const begun = newRecord(sessionId);
      const record = {
        ...{ ...begun, state, attempt: 1, decodeId: 'decode-1' },
        ...{ uploadClosed: true, receivedTokens: 512, nextToken: 512, sealedTokens: 512 },
        turn: { ...begun.turn, endToken: 512 },
      };
      const reservation = { storeId: 'store-1', bytes: 4_096, tokens: 4 };
      await world.store.records.create({ ...record, reservation }, 'router-other');
      await world.store.reservations.reserve('store-1', sessionId, 4_096, 1e9);
      return sessionId;
    }

    test('that does not let it go is busy, not absent', async () => {
      const sessionId = await keptElsewhere('kept');
      await finish(sessionId);
      for (const method of ['cancelSession', 'releaseSession'] as const) {
        await assert.rejects(call(method, sessionId), { code: 'SESSION_BUSY' });
      }
      assert.deepEqual(world.worker.releases, []);
      await world.store.records.dropLease(sessionId, 'router-other');
      await call('releaseSession', sessionId);
    });

    for (const [method, state, ended] of [
      ['releaseSession', 'kept', 'finished'],
      ['cancelSession', 'kept', 'cancelled'],
      ['cancelSession', 'decoding', 'cancelled'],
    ] as const) {
      test(`that is gone is freed by ${method} while it is ${state}`, async () => {
        const sessionId = await keptElsewhere(state);
        await world.store.records.dropLease(sessionId, 'router-other');
        const answer = await call(method, sessionId);
        assert.equal(answer.cancelled ?? answer.released, true);
        assert.deepEqual(world.worker.releases.at(0), { sessionId, epoch: 1 });
        assert.equal(world.decode.releases.at(0), sessionId);
        assert.equal((await world.store.records.load(sessionId))?.state, ended);
        assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
        const again = await call(method, sessionId);
        assert.equal(again.cancelled ?? again.released, false);
      });
    }

    /** Its last turn has ended well. */
    async function finish(sessionId: string): Promise<void> {
      const { policy } = newRecord(sessionId);
      await world.store.events.append(sessionId, 1, {
        type: 'finished',
        finishReason: 'stop',
        text: '',
        keptUntilUnixMs: Date.now() + 60_000,
        report: {
          ...{ policy, promptTokens: 1, cachedTokens: 0, completionTokens: 1 },
          ...{ timeToFirstTokenMs: 1, prefillMs: 1, decodeMs: 1, segmentBytes: 1, privateBytes: 1 },
          ...{
            workerIds: ['worker-1'],
            decodeId: 'decode-1',
            promptReran: false,
            sparseWork: null,
          },
        },
      });
    }
  });

  test('cannot be released during a turn', async () => {
    const { sessionId } = await firstTurn(20_000);
    world.decode.gate = async () => new Promise(() => undefined);
    const next = nextTurn(sessionId);
    next.send({ text: Buffer.from('more') });
    next.close();
    await next.until(({ event }) => event === 'accepted');
    const request = unaryCall(world.client, 'releaseSession', { sessionId }, { timeoutMs: 5_000 });
    await assert.rejects(request, /not idle/);
    next.cancel();
    await eventually('it is freed', () => world.driver.find(sessionId) === null);
  });

  test('that is unknown or over is said so', async () => {
    const unknown = await nextTurn('0'.repeat(32)).ended;
    assert.match(unknown?.details ?? '', /SESSION_NOT_FOUND/);
    const { sessionId } = await firstTurn(0);
    await eventually('it is left', () => world.driver.find(sessionId) === null);
    assert.match((await nextTurn(sessionId).ended)?.details ?? '', /SESSION_ENDED/);
  });
});
