import assert from '../../../support/assert.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { after, test } from 'node:test';
import { Metadata, status, type ServiceError } from '@grpc/grpc-js';
import type { RouterServiceClient } from '../../../../proto/gen/longshadow/router/v1/RouterService.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import type { CallContext } from '../../../../services/platform/rpc/call-context.js';
import { makeClient, unaryCall } from '../../../../services/platform/rpc/client.js';
import { startServer, type RunningServer } from '../../../../services/platform/rpc/server.js';
import { fromStatus } from '../../../../services/platform/rpc/status.js';
import { hostRouter, log, type RouterBehaviour } from '../../../support/host-router.js';

const running: (() => Promise<void>)[] = [];
after(async () => {
  for (const close of running) await close();
});

async function serve(
  behaviour: RouterBehaviour,
): Promise<{ client: RouterServiceClient; server: RunningServer }> {
  const services = [hostRouter(behaviour)];
  const server = await startServer({ address: '127.0.0.1:0', tls: null, services, log });
  const client = makeClient('router', server.address, null);
  running.push(async () => {
    client.close();
    await server.close(0);
  });
  return { client, server };
}

type GenerateCall = ReturnType<RouterServiceClient['generate']>;

/** The messages of a call and how it ended. */
async function collect(
  call: GenerateCall,
): Promise<{ sequences: number[]; error: ServingError | null }> {
  const sequences: number[] = [];
  call.on('data', ({ sequence }: { sequence: string }) => sequences.push(Number(sequence)));
  const failed = new Promise<ServingError>((resolve) => {
    call.on('error', (error) => {
      resolve(fromStatus(error));
    });
  });
  const ended = Promise.all([once(call, 'end'), once(call, 'status')]).then(
    () => null,
    async () => failed,
  );
  return { sequences, error: await ended };
}

const part = (bytes: number): { part: { text: Buffer } } => ({
  part: { text: Buffer.alloc(bytes) },
});

/** What a handler saw of its requests' end. */
interface Seen {
  ended: boolean;
  error: unknown;
  context: CallContext;
}

/** A behaviour that answers each request with its number and reports how its requests end. */
function watching(): { behaviour: RouterBehaviour; seen: Promise<Seen> } {
  let report: (seen: Seen) => void;
  const seen = new Promise<Seen>((resolve) => {
    report = resolve;
  });
  return {
    seen,
    behaviour: {
      generate: async function* (requests, context) {
        let sequence = 0;
        try {
          for await (const _request of requests) {
            sequence += 1;
            yield { sequence };
          }
          report({ ended: true, error: null, context });
        } catch (error) {
          report({ ended: false, error, context });
          throw error;
        }
      },
    },
  };
}

test('requests end at the half-close, and the call ends OK with every answer', async () => {
  const { behaviour, seen } = watching();
  const { client } = await serve(behaviour);
  const call = client.generate();
  const collected = collect(call);
  for (let i = 0; i < 50; i += 1) call.write(part(10));
  call.end();
  const { sequences, error } = await collected;
  assert.equal(error, null);
  assert.deepEqual(
    sequences,
    Array.from({ length: 50 }, (_, i) => i + 1),
  );
  const { ended, context } = await seen;
  assert.ok(ended);
  assert.equal(context.cancelReason(), null);
  assert.equal(context.signal.aborted, false);
});

test('a cancelled upload is never taken for a complete one', async () => {
  for (let i = 0; i < 20; i += 1) {
    const { behaviour, seen } = watching();
    const { client } = await serve(behaviour);
    const call = client.generate();
    call.on('error', () => undefined);
    call.write(part(10));
    await once(call, 'data');
    call.cancel();
    const { ended, error, context } = await seen;
    assert.equal(ended, false);
    assert.ok(error instanceof ServingError && error.code === 'CANCELLED');
    assert.equal(context.cancelReason(), 'client');
    assert.equal(context.signal.aborted, true);
  }
});

test('a client that is killed is seen within half a second', async () => {
  const { behaviour, seen } = watching();
  const { server } = await serve(behaviour);
  const script = fileURLToPath(new URL('../../../support/silent-client.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', script, server.address], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const killedMs = performance.now();
  child.kill('SIGKILL');
  const { ended, context } = await seen;
  assert.ok(performance.now() - killedMs < 500);
  assert.equal(ended, false);
  assert.equal(context.cancelReason(), 'client');
});

test('a deadline ends the call on both sides and is known as one', async () => {
  const { behaviour, seen } = watching();
  const { client } = await serve(behaviour);
  const call = client.generate({ deadline: Date.now() + 1_000 });
  const collected = collect(call);
  call.write(part(10));
  assert.equal((await collected).error?.code, 'DEADLINE_EXCEEDED');
  const { ended, context } = await seen;
  assert.equal(ended, false);
  assert.equal(context.cancelReason(), 'deadline');
  assert.ok((context.deadlineUnixMs ?? 0) > Date.now() - 60_000);
});

test('a handler that throws in the middle ends the call with its status, after its answers', async () => {
  const { client } = await serve({
    generate: async function* () {
      yield { sequence: 1 };
      yield { sequence: 2 };
      await Promise.resolve();
      throw new ServingError('VALUE_STORE_FULL', 'the store is full', { retryAfterMs: 2_000 });
    },
  });
  const { sequences, error } = await collect(client.generate());
  assert.deepEqual(sequences, [1, 2]);
  assert.equal(error?.code, 'VALUE_STORE_FULL');
  assert.deepEqual(error.details, { retryAfterMs: 2_000 });
});

test('a handler that fails while its upload is open and being read still sends its status', async () => {
  let reading: Promise<unknown> = Promise.resolve();
  const { client } = await serve({
    generate: async function* (requests) {
      const reader = requests[Symbol.asyncIterator]();
      await reader.next();
      reading = reader.next().catch((error: unknown) => error);
      yield { sequence: 1 };
      throw new ServingError('PROMPT_TOO_LONG', 'shorten it');
    },
  });
  const call = client.generate();
  const collected = collect(call);
  call.write(part(10));
  const { sequences, error } = await collected;
  assert.deepEqual(sequences, [1]);
  assert.equal(error?.code, 'PROMPT_TOO_LONG');
  assert.ok((await reading) instanceof ServingError, 'and the reader does not wait for ever');
});

test('a handler may stop reading and answer all the same', async () => {
  const { client } = await serve({
    generate: async function* (requests) {
      for await (const _request of requests) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
      yield { sequence: 7 };
    },
  });
  const call = client.generate();
  const collected = collect(call);
  for (let i = 0; i < 5; i += 1) call.write(part(1_000));
  const { sequences, error } = await collected;
  assert.equal(error, null);
  assert.deepEqual(sequences, [7]);
});

test('an unknown throw is INTERNAL without its message, and the server lives on', async () => {
  const { client } = await serve({
    generate: async function* () {
      await Promise.resolve();
      throw new TypeError('secret');
    },
    getStatus: () => {
      throw new TypeError('secret');
    },
  });
  for (let i = 0; i < 2; i += 1) {
    const { error } = await collect(client.generate());
    assert.equal(error?.code, 'INTERNAL');
    assert.doesNotMatch(error.message, /secret/);
  }
  await assert.rejects(unaryCall(client, 'getStatus', {}, { timeoutMs: 5_000 }), {
    code: 'INTERNAL',
    message: 'internal error',
  });
});

const MESSAGE_BYTES = 2 ** 18;

/** Reads one answer and no more. (A grpc-js client that never reads at all buffers without end.) */
async function stopsReading(call: GenerateCall): Promise<void> {
  call.on('error', () => undefined);
  await once(call, 'data');
  call.pause();
}

/** A behaviour that answers without end and counts what it has given away. */
function endless(): {
  behaviour: RouterBehaviour;
  given: () => number;
  done: Promise<CallContext>;
} {
  let count = 0;
  let finish: (context: CallContext) => void;
  const done = new Promise<CallContext>((resolve) => {
    finish = resolve;
  });
  return {
    given: () => count,
    done,
    behaviour: {
      generate: async function* (_requests, context) {
        await Promise.resolve();
        try {
          for (;;) {
            count += 1;
            yield { sessionId: 'x'.repeat(MESSAGE_BYTES) };
          }
        } finally {
          finish(context);
        }
      },
    },
  };
}

test('answers wait for a client that does not read, and end when it goes', async () => {
  const { behaviour, given, done } = endless();
  const { client } = await serve(behaviour);
  const call = client.generate();
  await stopsReading(call);
  // The 4 MiB window, 16 buffered answers and what grpc-js reads ahead: it must come to a stand.
  let before = -1;
  for (let waits = 0; given() !== before; waits += 1) {
    assert.ok(waits < 20, `still answering after ${String(given())} answers of 256 KiB`);
    before = given();
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  call.cancel();
  assert.equal((await done).cancelReason(), 'client');
});

test('a deadline ends a handler that waits for a client that does not read', async () => {
  const { behaviour, done } = endless();
  const { client } = await serve(behaviour);
  const call = client.generate({ deadline: Date.now() + 300 });
  await stopsReading(call);
  assert.equal((await done).cancelReason(), 'deadline');
});

test('a handler that hears no abort does not hold the adapter', async () => {
  let closed = false;
  const { client, server } = await serve({
    generate: async function* () {
      try {
        yield { sequence: 1 };
        await new Promise(() => undefined);
      } finally {
        closed = true;
      }
    },
  });
  const call = client.generate();
  call.on('error', () => undefined);
  await once(call, 'data');
  call.cancel();
  const startedMs = performance.now();
  await server.close(5_000);
  assert.ok(performance.now() - startedMs < 2_000);
  assert.equal(closed, false, 'it is beyond reach, but nothing waits for it');
});

test('a unary handler hears its client go, and gets its traceparent', async () => {
  let heard: (context: CallContext) => void;
  const hearing = new Promise<CallContext>((resolve) => {
    heard = resolve;
  });
  const { client } = await serve({
    getStatus: async (_request, context) =>
      new Promise((_resolve, reject) => {
        context.signal.addEventListener('abort', () => {
          heard(context);
          reject(new ServingError('CANCELLED', 'gone'));
        });
      }),
  });
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  const aborter = new AbortController();
  const options = { timeoutMs: 8_000, signal: aborter.signal, traceparent };
  const call = unaryCall(client, 'getStatus', {}, options);
  setTimeout(() => {
    aborter.abort(new ServingError('SHUTTING_DOWN', 'going'));
  }, 100);
  await assert.rejects(call, { code: 'SHUTTING_DOWN' });
  const context = await hearing;
  assert.equal(context.cancelReason(), 'client');
  assert.equal(context.traceparent, traceparent);
  assert.match(context.peer, /^127\.0\.0\.1:\d+$/);
  assert.equal(context.method, '/longshadow.router.v1.RouterService/GetStatus');
  const spent = { ...options, timeoutMs: 5_000 };
  await assert.rejects(unaryCall(client, 'getStatus', {}, spent), { code: 'SHUTTING_DOWN' });
});

test('a request that no protobuf is ends in an error of that call alone', async () => {
  const { client } = await serve({});
  const path = '/longshadow.router.v1.RouterService/GetStatus';
  const identity = (bytes: Buffer): Buffer => bytes;
  const error = await new Promise<ServiceError | null>((resolve) => {
    client.makeUnaryRequest(
      path,
      identity,
      identity,
      Buffer.from('ffffffffffffff', 'hex'),
      new Metadata(),
      (failure) => {
        resolve(failure);
      },
    );
  });
  assert.equal(error?.code, status.INTERNAL);
  assert.ok(await unaryCall(client, 'getStatus', {}, { timeoutMs: 5_000 }));
});
