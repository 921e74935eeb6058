import assert from '../support/assert.js';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type ServiceError, status } from '@grpc/grpc-js';
import type { RouterServiceClient } from '../../proto/gen/longshadow/router/v1/RouterService.js';
import { addApiKey } from '../../services/cli/keys/add-api-key.js';
import { DEFAULT_MESSAGE_LIMITS } from '../../services/platform/rpc/channel-options.js';
import { makeClient, unaryCall } from '../../services/platform/rpc/client.js';
import { loadService } from '../../services/platform/rpc/load-service.js';
import { MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { exchange, generate, idParts } from '../support/generate.js';
import { poll } from '../support/poll.js';
import { runCli } from '../support/run.js';

const IDS = Array.from({ length: 700 }, (_, index) => 300 + (index % 900));
const SOON = { timeoutMs: 20_000 };
const PARTS = [{ tokenIds: { ids: IDS.slice(0, 40) } }];

let folder: string;
let keysFile: string;
let cluster: TestCluster;
let acme: RouterServiceClient;
let zoo: RouterServiceClient;
const clients: RouterServiceClient[] = [];

function clientWith(apiKey: string | null): RouterServiceClient {
  const { address } = cluster;
  const client = makeClient('router', address, null, DEFAULT_MESSAGE_LIMITS, apiKey);
  clients.push(client);
  return client;
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  keysFile = join(folder, 'keys.txt');
  const keys = [await addApiKey(keysFile, 'acme'), await addApiKey(keysFile, 'zoo')] as const;
  cluster = await startTestCluster({ ROUTER_API_KEYS_FILE: keysFile });
  [acme, zoo] = [clientWith(keys[0]), clientWith(keys[1])];
});
after(async () => {
  for (const client of clients) client.close();
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** `CODE: message` of the refusal; fails if the call succeeds. */
async function refusal(call: Promise<unknown>): Promise<string> {
  const error: unknown = await call.then(
    () => null,
    (failure: unknown) => failure,
  );
  assert.ok(error instanceof Error, 'the call was not refused');
  if ('code' in error && typeof error.code === 'string') return `${error.code}: ${error.message}`;
  return (error as ServiceError).details;
}

async function resume(client: RouterServiceClient, sessionId: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let events = 0;
    const stream = client.resume({ sessionId });
    stream.on('data', () => (events += 1));
    stream.on('error', reject);
    stream.on('end', () => {
      resolve(events);
    });
  });
}

test('every method of the router wants a key, and says how to send one', async () => {
  const methods = Object.entries(loadService('router').service);
  assert.ok(methods.length >= 9);
  for (const [wrong, message] of [
    [clientWith(null), /^UNAUTHENTICATED: this router wants an API key: .*Bearer KEY/],
    [clientWith('lsk_wrong'), /^UNAUTHENTICATED: the API key is not one of this router/],
  ] as const) {
    for (const [name, { path, requestStream, responseStream }] of methods) {
      const refused = new Promise<unknown>((resolve, reject) => {
        const encode = (): Buffer => Buffer.alloc(0);
        const decode = (bytes: Buffer): Buffer => bytes;
        const onAnswer = (error: ServiceError | null): void => {
          if (error === null) resolve(null);
          else reject(error);
        };
        if (!requestStream && !responseStream) {
          wrong.makeUnaryRequest(path, encode, decode, {}, onAnswer);
          return;
        }
        const stream = requestStream
          ? wrong.makeBidiStreamRequest(path, encode, decode)
          : wrong.makeServerStreamRequest(path, encode, decode, {});
        stream.on('error', reject);
        stream.on('data', resolve);
        stream.on('end', resolve);
      });
      assert.match(await refusal(refused), message, name);
    }
  }
});

test('a right key is served; its tenant is filled in, and no other may be named', async () => {
  const answer = await generate(acme, { maxNewTokens: 2, ignoreEos: true }, PARTS);
  assert.equal(answer.tokens.length, 2);
  await generate(acme, { maxNewTokens: 1, tenant: 'acme', ignoreEos: true }, PARTS);
  const other = { header: { model: MODEL, tenant: 'zoo' } };
  const streamed = await refusal(exchange(acme, [other]));
  assert.match(streamed, /^PERMISSION_DENIED: .*leave `tenant` empty/);
  const inOne = await refusal(unaryCall(acme, 'generateText', { ...other, parts: PARTS }, SOON));
  assert.match(inOne, /^PERMISSION_DENIED: /);
});

test('health needs no key: it says nothing but whether the router serves', async () => {
  const answer = await new Promise<Buffer>((resolve, reject) => {
    clientWith(null).makeUnaryRequest(
      '/grpc.health.v1.Health/Check',
      () => Buffer.alloc(0),
      (bytes) => bytes,
      {},
      (error, response) => {
        if (error === null && response !== undefined) resolve(response);
        else reject(error ?? new Error('no answer'));
      },
    );
  });
  assert.deepEqual([...answer], [0x08, 0x01], 'SERVING');
});

test("another tenant's session is not there, whatever is asked of it", async () => {
  const header = { maxNewTokens: 2, keepSessionMs: 600_000, ignoreEos: true };
  const { sessionId, events } = await generate(acme, header, idParts(IDS));
  const unknown = '0'.repeat(32);
  const asked: Record<string, (id: string) => Promise<unknown>> = {
    CancelSession: (id) => unaryCall(zoo, 'cancelSession', { sessionId: id }, SOON),
    ReleaseSession: (id) => unaryCall(zoo, 'releaseSession', { sessionId: id }, SOON),
    Fork: (id) => unaryCall(zoo, 'fork', { sessionId: id }, SOON),
    Resume: (id) => resume(zoo, id),
    Generate: (id) => generate(zoo, { ...header, continueSessionId: id }, PARTS),
    GenerateText: (id) => {
      const request = { header: { model: MODEL, continueSessionId: id }, parts: PARTS };
      return unaryCall(zoo, 'generateText', request, SOON);
    },
  };
  const words = async (id: string): Promise<string[]> => {
    const answers = [];
    for (const [method, ask] of Object.entries(asked)) {
      answers.push(`${method} ${(await refusal(ask(id))).replace(id, 'ID')}`);
    }
    return answers;
  };
  const ofAnother = await words(sessionId);
  for (const said of ofAnother) assert.match(said, /^\w+ SESSION_NOT_FOUND: session ID is unknown/);
  assert.deepEqual(ofAnother, await words(unknown), 'as one that never was');

  const listed = async (client: RouterServiceClient): Promise<string[]> => {
    const answer = await unaryCall(client, 'getStatus', {}, SOON);
    return answer.sessions.map((session) => session.sessionId);
  };
  assert.ok((await listed(acme)).includes(sessionId));
  assert.deepEqual(await listed(zoo), []);

  assert.equal(await resume(acme, sessionId), events.length);
  const turn = { ...header, maxNewTokens: 1, continueSessionId: sessionId };
  assert.equal((await generate(acme, turn, PARTS)).tokens.length, 1);
  assert.deepEqual(await unaryCall(acme, 'releaseSession', { sessionId }, SOON), {
    released: true,
  });
});

test('a key that is added works without a restart, and one that is taken away does not', async () => {
  const before = readFileSync(keysFile, 'utf8');
  const { stdout } = await runCli(['keys', 'add', '--tenant', 'new', '--file', keysFile]);
  const key = stdout.trim();
  const environment = { LONGSHADOW_API_KEY: key };
  const statusArgs = ['status', '--router', cluster.address];
  const added = clientWith(key);
  const isServed = async (): Promise<boolean> =>
    unaryCall(added, 'listModels', {}, SOON).then(
      () => true,
      () => false,
    );
  await poll(isServed, (served) => served, 5_000, 50);
  await runCli(statusArgs, { environment });
  await runCli([...statusArgs, '--api-key', key]);

  // A new file with a wrong line, or a wrong mode, changes nothing.
  writeFileSync(keysFile, `${before}rubbish\n`);
  await poll(
    () => cluster.logs.filter((line) => line.includes('the old ones hold')).length,
    (count) => count === 1,
    5_000,
  );
  assert.ok(await isServed());

  writeFileSync(keysFile, before);
  await poll(isServed, (served) => !served, 5_000, 50);
  const { stderr } = await runCli(statusArgs, { environment, expectCode: 1 });
  assert.match(stderr, /^error: UNAUTHENTICATED: the API key is not one of this router/);
  assert.equal((await generate(acme, { maxNewTokens: 1 }, PARTS)).tokens.length, 1);
});

test('a key is never logged', () => {
  const text = cluster.logs.join('\n');
  assert.doesNotMatch(text, /lsk_/);
});

test('a router does not start with a file of keys that others may read', async () => {
  const path = join(folder, 'open.txt');
  await addApiKey(path, 'acme');
  chmodSync(path, 0o640);
  const started = startTestCluster({ ROUTER_API_KEYS_FILE: path });
  await assert.rejects(
    started.then(async (running) => running.stop()),
    { code: 'BAD_REQUEST', message: /ROUTER_API_KEYS_FILE: .*mode 0640.*chmod 600/ },
  );
});

test('with mutual TLS and keys a router listens on every address', async () => {
  const key = await addApiKey(join(folder, 'tls.txt'), 'acme');
  const open = await startTestCluster(
    { ROUTER_API_KEYS_FILE: join(folder, 'tls.txt') },
    { tls: true, routerListen: '0.0.0.0:0' },
  );
  const address = open.address.replace('0.0.0.0', '127.0.0.1');
  const tls = open.cluster.clientTls;
  const known = makeClient('router', address, tls, DEFAULT_MESSAGE_LIMITS, key);
  const keyless = makeClient('router', address, tls);
  try {
    assert.equal((await generate(known, { maxNewTokens: 1 }, PARTS)).tokens.length, 1);
    const { code } = await exchange(keyless, [{ header: { model: MODEL } }]).then(
      () => ({ code: status.OK }),
      (error: unknown) => error as ServiceError,
    );
    assert.equal(code, status.UNAUTHENTICATED);
  } finally {
    known.close();
    keyless.close();
    await open.stop();
  }
});
