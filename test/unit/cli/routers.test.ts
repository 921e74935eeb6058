import assert from '../../support/assert.js';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { after, test } from 'node:test';
import type { GenerateResponse } from '../../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { AnswerEvent } from '../../../services/cli/rpc/answer-events.js';
import { Routers } from '../../../services/cli/rpc/routers.js';
import { startServer, type RunningServer } from '../../../services/platform/rpc/server.js';
import { hostRouter, log, type RouterBehaviour } from '../../support/host-router.js';

const SESSION = '0'.repeat(32);
const PROMPT = { kind: 'text', bytes: [Buffer.from('a prompt')] } as const;

const servers: RunningServer[] = [];
after(async () => {
  await Promise.all(servers.map(async (server) => server.close(0)));
});

async function serve(behaviour: RouterBehaviour): Promise<RunningServer> {
  const services = [hostRouter(behaviour)];
  const server = await startServer({ address: '127.0.0.1:0', tls: null, services, log });
  server.setServing(true);
  servers.push(server);
  return server;
}

/**
 * A way to a server that can break, as when its process dies. A server that is closed in this process
 * only ends its side of a connection that Node has begun to close.
 */
async function wayTo(address: string): Promise<{ readonly address: string; break(): void }> {
  const sockets: Socket[] = [];
  const front = createServer((near) => {
    const far = connect(Number(address.split(':')[1]), '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.push(from);
      from.on('error', () => undefined).pipe(to);
    }
  });
  await new Promise<void>((resolve) => {
    front.listen(0, '127.0.0.1', resolve);
  });
  const { port } = front.address() as AddressInfo;
  return {
    address: `127.0.0.1:${String(port)}`,
    break: () => {
      front.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function token(sequence: number): GenerateResponse {
  return {
    sessionId: SESSION,
    sequence,
    token: { index: sequence - 2, text: ` ${String(sequence)}` },
  };
}

const describe = (event: AnswerEvent): string =>
  event.type === 'token' ? event.text : `${String(event.sequence)} ${event.type}`;

test('an answer goes on at another router when the connection to its own breaks', async () => {
  const dying = await serve({
    generate: async function* () {
      yield { sessionId: SESSION, sequence: 1, accepted: { model: 'needle' } };
      yield token(2);
      await new Promise(() => undefined); // relays until its process dies
    },
  });
  const asked: unknown[] = [];
  const other = await serve({
    resume: async function* (request) {
      asked.push(request);
      yield { sessionId: SESSION, sequence: 3, interrupted: { code: 'DECODE_LOST', message: 'x' } };
      yield token(4);
      yield { sessionId: SESSION, sequence: 5, finished: { text: '.' } };
      await Promise.resolve();
    },
  });
  const way = await wayTo(dying.address);
  const routers = new Routers([way.address, other.address], {});
  const seen: string[] = [];
  const lost: string[] = [];
  try {
    const events = routers.generate({ model: 'needle' }, PROMPT, {
      signal: new AbortController().signal,
      onLost: (from, next) => lost.push(`${from} > ${next}`),
    });
    for await (const event of events) {
      seen.push(describe(event));
      if (event.sequence === 2) way.break();
    }
  } finally {
    routers.close();
  }
  assert.deepEqual(seen, ['1 accepted', ' 2', '3 interrupted', ' 4', '5 finished']);
  assert.deepEqual(asked, [{ sessionId: SESSION, afterSequence: '2' }]);
  assert.deepEqual(lost, [`${way.address} > ${other.address}`]);
});

test('a router that is not there is passed over', async () => {
  const absent = await serve({});
  await absent.close(0);
  const there = await serve({
    getStatus: async () =>
      Promise.resolve({ sessions: [{ sessionId: SESSION, state: 'kept', epoch: 2 }] }),
  });
  const routers = new Routers([absent.address, there.address], {});
  try {
    assert.equal((await routers.status()).sessions[0]?.epoch, 2);
  } finally {
    routers.close();
  }
});

test('resume asks for what comes after the given event', async () => {
  const server = await serve({
    resume: async function* ({ afterSequence }) {
      yield token(Number(afterSequence) + 1);
      await Promise.resolve();
    },
  });
  const routers = new Routers([server.address], {});
  const seen: number[] = [];
  try {
    const lasting = { signal: new AbortController().signal, onLost: () => undefined };
    for await (const { sequence } of routers.resume(SESSION, 16, lasting)) seen.push(sequence);
  } finally {
    routers.close();
  }
  assert.deepEqual(seen, [17]);
});
