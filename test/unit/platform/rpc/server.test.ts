import assert from '../../../support/assert.js';
import { after, before, test } from 'node:test';
import { loadPackageDefinition, credentials, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath } from 'grpc-health-check';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { makeClient, unaryCall } from '../../../../services/platform/rpc/client.js';
import { loadService } from '../../../../services/platform/rpc/load-service.js';
import { startServer, type RunningServer } from '../../../../services/platform/rpc/server.js';
import { hostRouter, log } from '../../../support/host-router.js';

let server: RunningServer;
before(async () => {
  server = await startServer({
    address: '127.0.0.1:0',
    tls: null,
    services: [hostRouter({})],
    log,
  });
});
after(async () => {
  await server.close(0);
});

type HealthAnswer = (error: Error | null, answer?: { status: string }) => void;

async function health(service: string): Promise<string | undefined> {
  const loaded = loadPackageDefinition(loadSync(protoPath, { enums: String })) as unknown as {
    grpc: { health: { v1: { Health: ServiceClientConstructor } } };
  };
  const client = new loaded.grpc.health.v1.Health(server.address, credentials.createInsecure());
  const check = client['check'] as (request: object, done: HealthAnswer) => void;
  return new Promise((resolve, reject) => {
    check.call(client, { service }, (error, answer) => {
      client.close();
      if (error === null) resolve(answer?.status);
      else reject(error);
    });
  });
}

test('port 0 is replaced by the port that was bound', () => {
  assert.match(server.address, /^127\.0\.0\.1:[1-9]\d+$/);
});

test('health is NOT_SERVING until told, for the server and for each service', async () => {
  const names = ['', 'longshadow.router.v1.RouterService'];
  for (const name of names) assert.equal(await health(name), 'NOT_SERVING');
  server.setServing(true);
  for (const name of names) assert.equal(await health(name), 'SERVING');
  await assert.rejects(health('longshadow.other'), /NOT_FOUND/);
  server.setServing(false);
  assert.equal(await health(''), 'NOT_SERVING');
});

const refusals = ['0.0.0.0:0', '[::]:0', '192.0.2.1:0'];
for (const address of refusals) {
  test(`listening on ${address} without TLS is refused, with what to set`, async () => {
    const spec = { address, tls: null, services: [hostRouter({})], log };
    await assert.rejects(startServer(spec), {
      name: 'ServingError',
      code: 'BAD_REQUEST',
      message: /LONGSHADOW_TLS_CERT.*127\.0\.0\.1/,
    });
  });
}

test('a bad address, a taken port and unreadable TLS files are clear errors', async () => {
  const spec = { tls: null, services: [hostRouter({})], log };
  const refused = { name: 'ServingError', code: 'BAD_REQUEST' };
  await assert.rejects(startServer({ ...spec, address: 'nowhere' }), refused);
  await assert.rejects(startServer({ ...spec, address: server.address }), refused);
  const tls = { certPath: '/nope.pem', keyPath: '/nope.pem', caPath: null };
  await assert.rejects(startServer({ ...spec, address: '127.0.0.1:0', tls }), {
    ...refused,
    message: /LONGSHADOW_TLS_CERT: cannot read/,
  });
});

test('a call to a server that is not there is the error that the caller names', async () => {
  const client = makeClient('decode', '127.0.0.1:1', null);
  const options = { timeoutMs: 5_000, unavailable: 'DECODE_LOST' } as const;
  await assert.rejects(unaryCall(client, 'getStatus', {}, options), { code: 'DECODE_LOST' });
  client.close();
});

test('a request over the limit is refused with what to change, and the server lives on', async () => {
  const limits = { maxReceiveBytes: 2 ** 26, maxSendBytes: 2 ** 26 };
  const client = makeClient('router', server.address, null, limits);
  const request = { model: 'x'.repeat(17 * 2 ** 20) };
  await assert.rejects(unaryCall(client, 'countTokens', request, { timeoutMs: 10_000 }), {
    code: 'MESSAGE_TOO_LARGE',
    message: /larger than max .* 16777216\): send it as several smaller ones$/,
  });
  const answer = await unaryCall(client, 'getStatus', {}, { timeoutMs: 5_000 });
  assert.ok(answer);
  client.close();
});

test('a reply over the limit is refused with what to change', async () => {
  const big = hostRouter({
    listModels: async () => Promise.resolve({ models: [{ name: 'x'.repeat(17 * 2 ** 20) }] }),
  });
  const other = await startServer({ address: '127.0.0.1:0', tls: null, services: [big], log });
  const client = makeClient('router', other.address, null);
  await assert.rejects(unaryCall(client, 'listModels', {}, { timeoutMs: 10_000 }), {
    code: 'MESSAGE_TOO_LARGE',
    message: /larger than max .*: ask for less in one call$/,
  });
  client.close();
  await other.close(0);
});

test('close waits for calls that run, up to the grace time', async () => {
  const slow = hostRouter({
    getStatus: async () => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      return {};
    },
    listModels: async (_request, context) =>
      new Promise((_resolve, reject) => {
        context.signal.addEventListener('abort', () => {
          reject(new ServingError('CANCELLED', 'ended'));
        });
      }),
  });
  const other = await startServer({ address: '127.0.0.1:0', tls: null, services: [slow], log });
  const client = makeClient('router', other.address, null);
  const quick = unaryCall(client, 'getStatus', {}, { timeoutMs: 10_000 });
  const endless = unaryCall(client, 'listModels', {}, { timeoutMs: 10_000 });
  endless.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const startedMs = performance.now();
  await other.close(500);
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs >= 450 && tookMs < 3_000, `took ${tookMs.toFixed(0)} ms`);
  assert.ok(await quick);
  await assert.rejects(endless, { name: 'ServingError' });
  client.close();
});

test('a unix socket serves too', async () => {
  const address = `unix:/tmp/ls-rpc-${String(process.pid)}.sock`;
  const other = await startServer({ address, tls: null, services: [hostRouter({})], log });
  const client = makeClient('router', other.address, null);
  assert.ok(await unaryCall(client, 'GetStatus', {}, { timeoutMs: 5_000 }));
  client.close();
  await other.close(0);
});

test('each service loads with the methods of its types', () => {
  assert.ok(loadService('router').service.Generate.responseStream);
  assert.equal(loadService('worker').fullName, 'longshadow.worker.v1.WorkerService');
  assert.ok(loadService('decode').service.StartSession);
});
