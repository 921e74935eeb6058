import assert from '../../../support/assert.js';
import { after, before, test } from 'node:test';
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import type { AdapterOptions } from '../../../../services/platform/rpc/adapter-options.js';
import { bidiStream } from '../../../../services/platform/rpc/bidi-stream.js';
import { DEFAULT_MESSAGE_LIMITS } from '../../../../services/platform/rpc/channel-options.js';
import { makeClient, unaryCall } from '../../../../services/platform/rpc/client.js';
import type { HostedService } from '../../../../services/platform/rpc/load-service.js';
import { serverStream } from '../../../../services/platform/rpc/server-stream.js';
import { type RunningServer, startServer } from '../../../../services/platform/rpc/server.js';
import { unary } from '../../../../services/platform/rpc/unary.js';
import { hostRouter, log, metrics } from '../../../support/host-router.js';

const options: AdapterOptions = {
  log,
  metrics,
  authenticate: (authorization) => {
    if (authorization === 'Bearer good') return 'acme';
    throw new ServingError('UNAUTHENTICATED', `no: ${String(authorization)}`);
  },
};

let server: RunningServer;
/** Tenants that handlers were called for. */
let called: (string | null)[] = [];
before(async () => {
  const plain = hostRouter({});
  const hosted = {
    ...plain,
    implementation: {
      ...plain.implementation,
      GetStatus: unary(async (_request, { tenant }) => {
        called.push(tenant);
        return Promise.resolve({});
      }, options),
      // eslint-disable-next-line @typescript-eslint/require-await -- a stream of one answer
      Generate: bidiStream(async function* (_requests, { tenant }) {
        called.push(tenant);
        yield { sequence: 1 };
      }, options),
      // eslint-disable-next-line @typescript-eslint/require-await -- a stream of one answer
      Resume: serverStream(async function* (_request, { tenant }) {
        called.push(tenant);
        yield { sequence: 1 };
      }, options),
    },
  } as HostedService;
  server = await startServer({ address: '127.0.0.1:0', tls: null, services: [hosted], log });
});
after(async () => {
  await server.close(0);
});

/** One call of each kind; what each ended with. */
async function callAll(apiKey: string | null, metadata = new Metadata()): Promise<string[]> {
  const client = makeClient('router', server.address, null, DEFAULT_MESSAGE_LIMITS, apiKey);
  const said = (error: ServiceError | null): string => error?.details ?? 'OK';
  try {
    return await Promise.all([
      new Promise<string>((resolve) => {
        client.getStatus({}, metadata, (error) => {
          resolve(said(error));
        });
      }),
      ...[client.generate(metadata), client.resume({}, metadata)].map(
        async (stream) =>
          new Promise<string>((resolve) => {
            stream.on('data', () => undefined);
            stream.on('error', (error: ServiceError) => {
              resolve(said(error));
            });
            stream.on('end', () => {
              resolve('OK');
            });
          }),
      ),
    ]);
  } finally {
    client.close();
  }
}

test('a handler of each kind is called with the tenant of the key', async () => {
  called = [];
  assert.deepEqual(await callAll('good'), ['OK', 'OK', 'OK']);
  assert.deepEqual(called, ['acme', 'acme', 'acme']);
});

test('a call that is not authenticated reaches no handler', async () => {
  called = [];
  const said = (text: string): string[] => Array<string>(3).fill(`UNAUTHENTICATED: no: ${text}`);
  assert.deepEqual(await callAll(null), said('null'));
  assert.deepEqual(await callAll('bad'), said('Bearer bad'));
  const other = new Metadata();
  other.set('authorization', 'Basic good');
  assert.deepEqual(await callAll(null, other), said('Basic good'));
  assert.deepEqual(called, []);
});

test('where callers are not asked, a key does not matter and there is no tenant', async () => {
  const seen: (string | null)[] = [];
  const services = [
    hostRouter({
      getStatus: async (_request, { tenant }) => {
        seen.push(tenant);
        return Promise.resolve({});
      },
    }),
  ];
  const open = await startServer({ address: '127.0.0.1:0', tls: null, services, log });
  const client = makeClient('router', open.address, null, DEFAULT_MESSAGE_LIMITS, 'any');
  await unaryCall(client, 'getStatus', {}, { timeoutMs: 3_000 });
  assert.deepEqual(seen, [null]);
  client.close();
  await open.close(0);
});

test('a key is not sent in clear text through a network, nor where it holds what no header may', () => {
  const make = (address: string, key: string): void => {
    makeClient('router', address, null, DEFAULT_MESSAGE_LIMITS, key).close();
  };
  for (const address of ['192.0.2.1:7000', 'router.example:7000', '0.0.0.0:7000', 'nowhere']) {
    assert.throws(
      () => {
        make(address, 'lsk_secret');
      },
      (error: Error) => /without TLS/.test(error.message) && !error.message.includes('secret'),
      address,
    );
  }
  for (const address of ['127.0.0.1:7000', 'localhost:7000', '[::1]:7000', 'unix:/run/r.sock']) {
    make(address, 'lsk_secret');
  }
  for (const key of ['', 'a b', 'a\nb', 'é']) {
    assert.throws(
      () => {
        make('127.0.0.1:7000', key);
      },
      { code: 'BAD_REQUEST', message: /holds spaces/ },
    );
  }
});
