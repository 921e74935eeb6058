import assert from '../../../support/assert.js';
import { after, before, beforeEach, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { unaryCall } from '../../../../services/platform/rpc/client.js';
import { fakeMember } from './fake-members.js';
import {
  eventually,
  generate,
  type GenerateCall,
  type RouterWorld,
  startRouterWorld,
} from './router-world.js';

const ids = (count: number): number[] => Array.from({ length: count }, (_, i) => (i % 4_000) + 4);
const forever = async (): Promise<void> => new Promise(() => undefined);

describe('ends before the answer', () => {
  let world: RouterWorld;
  before(async () => {
    world = await startRouterWorld();
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(() => {
    world.worker.jobs.length = 0;
    world.worker.releases.length = 0;
    world.decode.releases.length = 0;
    world.decode.starts.length = 0;
    world.worker.gate = async () => Promise.resolve();
    world.decode.gate = async () => Promise.resolve();
    world.decode.startGate = async () => Promise.resolve();
  });

  /** Brings a session into each phase; settles when it is there. */
  const phases: { name: string; state: string; enter: (call: GenerateCall) => Promise<void> }[] = [
    {
      name: 'while the upload is open and nothing runs',
      state: 'uploading',
      enter: async (call) => {
        call.send({ tokenIds: { ids: ids(10) } });
        await call.until(({ event }) => event === 'accepted');
      },
    },
    {
      name: 'while a chunk runs under an open upload',
      state: 'uploading',
      enter: async (call) => {
        world.worker.gate = forever;
        call.send({ tokenIds: { ids: ids(3_000) } });
        await eventually('a chunk runs', () => world.worker.jobs.length === 1);
      },
    },
    {
      name: 'while a chunk of a closed prompt runs',
      state: 'prefilling',
      enter: async (call) => {
        world.worker.gate = async (job) =>
          job.beginToken === 2_048 ? forever() : Promise.resolve();
        call.send({ tokenIds: { ids: ids(5_000) } });
        call.close();
        await eventually('the second chunk runs', () => world.worker.jobs.length === 2);
      },
    },
    {
      name: 'while the seal runs',
      state: 'sealing',
      enter: async (call) => {
        world.worker.gate = async (job) => (job.kind === 'seal' ? forever() : Promise.resolve());
        call.send({ tokenIds: { ids: ids(100) } });
        call.close();
        await eventually('the seal runs', () => world.worker.jobs.at(-1)?.kind === 'seal');
      },
    },
    {
      name: 'while decode takes the hand-off',
      state: 'sealing',
      enter: async (call) => {
        world.decode.startGate = async (signal) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              reject(new ServingError('CANCELLED', 'aborted'));
            });
          });
        call.send({ tokenIds: { ids: ids(100) } });
        call.close();
        await eventually('decode starts', () => world.decode.starts.length === 1);
      },
    },
    {
      name: 'while tokens come',
      state: 'decoding',
      enter: async (call) => {
        let steps = 0;
        world.decode.gate = async () => ((steps += 1) > 1 ? forever() : Promise.resolve());
        call.send({ tokenIds: { ids: ids(100) } });
        call.close();
        await call.until(({ event }) => event === 'token');
        const id = call.responses[0]?.sessionId ?? '';
        await eventually('it decodes', () => world.driver.find(id)?.record.state === 'decoding');
      },
    },
  ];

  async function assertFree(sessionId: string, state: string): Promise<void> {
    await eventually('the session is left', () => world.driver.find(sessionId) === null);
    assert.equal((await world.store.records.load(sessionId))?.state, state);
    assert.ok(
      world.worker.releases.some(
        (release) => release.sessionId === sessionId && release.epoch === 1,
      ),
    );
    assert.ok(world.decode.releases.includes(sessionId));
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
    assert.deepEqual(await world.store.records.activeSessionIds(), []);
    const jobsThen = world.worker.jobs.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(world.worker.jobs.length, jobsThen, 'no job runs after the end');
  }

  for (const { name, state, enter } of phases) {
    test(`a client that goes ${name} leaves nothing behind within 500 ms`, async () => {
      const call = generate(world, { maxNewTokens: 16 });
      await enter(call);
      const sessionId = [...(await world.store.records.activeSessionIds())][0] ?? '';
      assert.equal(world.driver.find(sessionId)?.record.state, state);
      const startedMs = performance.now();
      call.cancel();
      await eventually('the session is left', () => world.driver.find(sessionId) === null);
      assert.ok(performance.now() - startedMs < 500);
      assert.equal((await call.ended)?.code, status.CANCELLED);
      await assertFree(sessionId, 'cancelled');
      const events = await world.store.events.read(sessionId, 0, 100);
      const last = events.at(-1)?.event;
      assert.equal(last?.type === 'error' && last.code, 'CANCELLED');
    });

    test(`CancelSession ${name} ends the call with CANCELLED`, async () => {
      const call = generate(world, { maxNewTokens: 16 });
      await enter(call);
      const sessionId = [...(await world.store.records.activeSessionIds())][0] ?? '';
      const answer = await unaryCall(
        world.client,
        'cancelSession',
        { sessionId },
        { timeoutMs: 5_000 },
      );
      assert.equal(answer.cancelled, true);
      assert.equal((await call.ended)?.code, status.CANCELLED);
      await assertFree(sessionId, 'cancelled');
      const again = await unaryCall(
        world.client,
        'cancelSession',
        { sessionId },
        { timeoutMs: 5_000 },
      );
      assert.equal(again.cancelled, false);
    });

    test(`a deadline that passes ${name} ends the call with DEADLINE_EXCEEDED`, async () => {
      const call = generate(world, { maxNewTokens: 16, deadlineMs: 400 });
      await enter(call);
      const sessionId = [...(await world.store.records.activeSessionIds())][0] ?? '';
      assert.equal((await call.ended)?.code, status.DEADLINE_EXCEEDED);
      await assertFree(sessionId, 'cancelled');
    });
  }

  test('a cancel by another router, through the event stream, ends the session', async () => {
    world.worker.gate = forever;
    const call = generate(world, { maxNewTokens: 16 });
    call.send({ tokenIds: { ids: ids(100) } });
    call.close();
    await eventually('a chunk runs', () => world.worker.jobs.length === 1);
    const sessionId = world.worker.jobs[0]?.sessionId ?? '';
    await world.store.events.append(sessionId, 1, {
      type: 'error',
      code: 'CANCELLED',
      message: 'the session was cancelled',
      details: {},
    });
    assert.equal((await call.ended)?.code, status.CANCELLED);
    await assertFree(sessionId, 'cancelled');
  });

  test('a worker failure that no other plan cures reaches the client with its code', async () => {
    world.worker.gate = async () =>
      Promise.reject(new ServingError('RESERVATION_EXCEEDED', 'no more than 9 bytes'));
    const call = generate(world, { maxNewTokens: 16 });
    call.send({ tokenIds: { ids: ids(100) } });
    call.close();
    const error = await call.ended;
    assert.equal(error?.code, status.RESOURCE_EXHAUSTED);
    assert.match(error.details, /RESERVATION_EXCEEDED: no more than 9 bytes/);
    const told = call.responses.at(-1);
    assert.equal(told?.error?.code, 'RESERVATION_EXCEEDED');
    await assertFree(told.sessionId, 'failed');
  });

  test('a failure that is a bug is INTERNAL and says nothing of itself', async () => {
    world.worker.gate = async () => Promise.reject(new Error('secret detail'));
    const call = generate(world, { maxNewTokens: 16 });
    call.send({ tokenIds: { ids: ids(100) } });
    call.close();
    const error = await call.ended;
    assert.equal(error?.code, status.INTERNAL);
    assert.doesNotMatch(error.details, /secret/);
  });

  const uploads = [
    { name: 'an empty prompt', parts: [], code: /EMPTY_PROMPT/ },
    { name: 'a prompt of empty text', parts: [{ text: Buffer.alloc(0) }], code: /EMPTY_PROMPT/ },
    {
      name: 'bytes that are not UTF-8',
      parts: [{ text: Buffer.from('ab') }, { text: Buffer.from([0x63, 0xff]) }],
      code: /INVALID_UTF8.* byte 3/,
    },
    {
      name: 'a text that ends inside a character',
      parts: [{ text: Buffer.from([0x61, 0xe4, 0xb8]) }],
      code: /INVALID_UTF8.* byte 1/,
    },
    {
      name: 'a token id out of range',
      parts: [{ tokenIds: { ids: [1, 4_096] } }],
      code: /TOKEN_ID_OUT_OF_RANGE.*4096/,
    },
    {
      name: 'a part past the reservation',
      parts: [{ tokenIds: { ids: ids(64) } }, { tokenIds: { ids: ids(1) } }],
      code: /PROMPT_TOO_LONG.*64/,
    },
    {
      name: 'messages past the reservation, before they have given ids',
      parts: Array.from({ length: 65 }, () => ({
        message: { role: 'user', content: Buffer.from('x') },
      })),
      code: /PROMPT_TOO_LONG.*64/,
    },
    {
      name: 'a message after text',
      parts: [{ text: Buffer.from('a') }, { message: { role: 'user', content: Buffer.from('b') } }],
      code: /BAD_REQUEST/,
    },
    { name: 'a part that holds nothing', parts: [{}], code: /BAD_REQUEST/ },
  ];
  for (const { name, parts, code } of uploads) {
    test(`${name} ends the session with a clear error`, async () => {
      const call = generate(world, { maxPromptTokens: 64, maxNewTokens: 16 });
      for (const part of parts) call.send(part);
      call.close();
      const error = await call.ended;
      assert.equal(error?.code, status.INVALID_ARGUMENT);
      assert.match(error.details, code);
      await assertFree(call.responses[0]?.sessionId ?? '', 'failed');
    });
  }

  test('on_disconnect keep lets the session run on, then cancels it', async () => {
    world.worker.gate = forever;
    const call = generate(world, {
      maxNewTokens: 16,
      onDisconnect: 'ON_DISCONNECT_KEEP',
      resumeGraceMs: 300,
    });
    call.send({ tokenIds: { ids: ids(100) } });
    call.close();
    await eventually('a chunk runs', () => world.worker.jobs.length === 1);
    const sessionId = world.worker.jobs[0]?.sessionId ?? '';
    call.cancel();
    await call.ended;
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(world.driver.find(sessionId)?.record.state, 'prefilling');
    await assertFree(sessionId, 'cancelled');
  });

  test('a full value store refuses with a retry time, and takes the session once there is room', async () => {
    const header = { maxPromptTokens: 999_000, maxNewTokens: 16 };
    const first = generate(world, header);
    await first.until(({ event }) => event === 'accepted');
    const second = generate(world, header);
    await second.until(({ event }) => event === 'accepted');
    const third = generate(world, header);
    const error = await third.ended;
    assert.equal(error?.code, status.RESOURCE_EXHAUSTED);
    assert.match(error.details, /VALUE_STORE_FULL/);
    assert.ok(error.metadata.get('grpc-status-details-bin').length === 1);
    first.cancel();
    second.cancel();
    await eventually(
      'memory is given back',
      async () => (await world.store.reservations.reservedBytes('store-1')) === 0,
    );
  });

  test('without a worker, or a decode beside it, it is UNAVAILABLE', async () => {
    try {
      await world.announce([fakeMember('decode')]);
      const noWorker = await generate(world, {}).ended;
      assert.equal(noWorker?.code, status.UNAVAILABLE);
      assert.match(noWorker.details, /NO_WORKER/);
      await world.announce([fakeMember('worker'), fakeMember('decode', { storeId: 'elsewhere' })]);
      const noDecode = await generate(world, {}).ended;
      assert.equal(noDecode?.code, status.UNAVAILABLE);
      assert.match(noDecode.details, /NO_DECODE/);
    } finally {
      await world.announce([fakeMember('worker'), fakeMember('decode')]);
    }
  });

  test('measures from the cancel to freed memory, by phase', async () => {
    assert.match(
      await world.metrics(),
      /longshadow_cancel_to_free_seconds_count\{[^}]*phase="sealing"[^}]*\} [1-9]/,
    );
  });
});
