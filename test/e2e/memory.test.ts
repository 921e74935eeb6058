import assert from '../support/assert.js';
import { mkdtempSync, rmSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { type ServiceError, status as grpcStatus } from '@grpc/grpc-js';
import { Cluster } from '../../services/cli/cluster/start-cluster.js';
import { ServingError } from '../../services/domain/serving-error.js';
import { fromStatus } from '../../services/platform/rpc/status.js';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateResponse__Output } from '../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import { MODEL, NEEDLE_MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { type Answer, generate, idParts } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';
import { poll } from '../support/poll.js';

/** 512 tokens of K and V of the embedded model: 6 layers, 2 heads of 64, bf16. */
const PAGE_BYTES = 512 * 6 * 2 * 64 * 2 * 2;
/** Room for three sessions of four pages, and not for a fourth. */
const CAPACITY_PAGES = 13;
const PROMPT_TOKENS = 2_000;
const NEW_TOKENS = 8;
const MAX_KEEP_MS = 60_000;

let cluster: TestCluster;
before(async () => {
  cluster = await startTestCluster({
    WORKER_STORE_CAPACITY_BYTES: String(CAPACITY_PAGES * PAGE_BYTES),
    ROUTER_MAX_KEEP_SESSION_MS: String(MAX_KEEP_MS),
  });
});
after(async () => {
  await cluster.stop();
});

/** Four pages. Each begins otherwise, so that none is made of another's segments. */
function promptOf(number: number): number[] {
  return needleSample(1).prompt.slice(number * 100, number * 100 + PROMPT_TOKENS);
}

const FOUR_PAGES: GenerateHeader = {
  ...{ maxPromptTokens: String(PROMPT_TOKENS), maxNewTokens: NEW_TOKENS, ignoreEos: true },
};

async function keep(number: number): Promise<Answer> {
  const header = { ...FOUR_PAGES, keepSessionMs: '50000' };
  return generate(cluster.client, header, idParts(promptOf(number)));
}

async function sessionIds(): Promise<string[]> {
  return (await cluster.status()).sessions.map(({ sessionId }) => sessionId);
}

async function untilEmpty(): Promise<void> {
  await poll(sessionIds, (ids) => ids.length === 0, 5_000);
}

function checkRefusal(error: ServingError): void {
  assert.equal(error.code, 'VALUE_STORE_FULL');
  assert.ok((error.details.retryAfterMs ?? 0) > 0);
  assert.match(error.details.quota?.description ?? '', new RegExp(`${4 * PAGE_BYTES} bytes`));
}

test('a store too small for any session keeps the worker from starting, and says why', async () => {
  const base = mkdtempSync('/dev/shm/longshadow-test-');
  try {
    const started = await Cluster.start({
      modelDirectory: NEEDLE_MODEL,
      workers: 1,
      routerListen: '127.0.0.1:0',
      storeBase: base,
      redisUrl: null,
      environment: { ...process.env, WORKER_STORE_CAPACITY_BYTES: String(PAGE_BYTES - 1) },
      readyWithinMs: 30_000,
      onLog: () => undefined,
    }).catch((error: unknown) => error);
    if (started instanceof Cluster) await started.stop();
    assert.ok(started instanceof ServingError, String(started));
    assert.equal(started.code, 'VALUE_STORE_FULL');
    assert.match(started.message, new RegExp(`${PAGE_BYTES - 1} bytes.* takes ${PAGE_BYTES}`));
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
});

test('a session that a full store cannot take is told so, and those that run are not hurt', async () => {
  const uploads = [0, 1, 2].map((number) => {
    const call = cluster.client.generate();
    const tokens: number[] = [];
    let accepted = false;
    call.on('data', ({ token, accepted: event }: GenerateResponse__Output) => {
      if (event) accepted = true;
      if (token) tokens.push(token.tokenId);
    });
    const ended = new Promise<ServiceError | null>((resolve) => {
      call.on('error', resolve);
      call.on('end', () => {
        resolve(null);
      });
    });
    call.write({ header: { model: MODEL, ...FOUR_PAGES } });
    const isAccepted = (): boolean => accepted;
    return { call, tokens, ended, isAccepted, parts: idParts(promptOf(number)) };
  });
  await poll(
    () => uploads.filter(({ isAccepted }) => isAccepted()).length,
    (accepted) => accepted === 3,
    10_000,
  );
  const refused = await generate(cluster.client, FOUR_PAGES, idParts(promptOf(3))).catch(
    (error: unknown) => error as ServiceError,
  );
  assert.ok(refused instanceof Error && 'code' in refused);
  assert.equal(refused.code, grpcStatus.RESOURCE_EXHAUSTED);
  checkRefusal(fromStatus(refused));
  for (const { call, parts } of uploads) {
    for (const part of parts) call.write({ part });
    call.end();
  }
  for (const { ended, tokens } of uploads) {
    assert.equal(await ended, null);
    assert.equal(tokens.length, NEW_TOKENS);
  }
  await untilEmpty();
  // Alone, each gets the same answer.
  for (const [number, { tokens }] of uploads.entries()) {
    const alone = await generate(cluster.client, FOUR_PAGES, idParts(promptOf(number)));
    assert.deepEqual(alone.ids, tokens);
  }
  await untilEmpty();
});

test('kept sessions make room, the one that was used longest ago first', async () => {
  const [first, second, third] = [await keep(0), await keep(1), await keep(2)];
  // Another turn makes the first one the last that was used.
  const turn = await generate(
    cluster.client,
    {
      continueSessionId: first.sessionId,
      maxNewTokens: 4,
      ignoreEos: true,
      keepSessionMs: '50000',
    },
    idParts(promptOf(9).slice(0, 8)),
  );
  assert.equal(turn.sessionId, first.sessionId);
  const fourth = await keep(3);
  assert.deepEqual(
    (await sessionIds()).sort(),
    [first, third, fourth].map(({ sessionId }) => sessionId).sort(),
  );
  const gone = await generate(
    cluster.client,
    { continueSessionId: second.sessionId, maxNewTokens: 4 },
    idParts([5]),
  ).catch((error: unknown) => error as ServiceError);
  assert.ok(gone instanceof Error && 'code' in gone);
  assert.equal(fromStatus(gone).code, 'SESSION_ENDED');
  // Two that run at once, which nobody can keep from running.
  const both = await Promise.all([4, 5].map(keep));
  assert.deepEqual(
    (await sessionIds()).sort(),
    [fourth, ...both].map(({ sessionId }) => sessionId).sort(),
  );
});

test('more than all kept sessions hold is refused, and none goes for nothing', async () => {
  const before = await sessionIds();
  assert.equal(before.length, 3);
  const pages = CAPACITY_PAGES + 1;
  const header = { ...FOUR_PAGES, maxPromptTokens: String(pages * 512 - NEW_TOKENS) };
  const refused = await generate(cluster.client, header, idParts(promptOf(6))).catch(
    (error: unknown) => error as ServiceError,
  );
  assert.ok(refused instanceof Error && 'code' in refused);
  assert.equal(fromStatus(refused).code, 'VALUE_STORE_FULL');
  assert.deepEqual((await sessionIds()).sort(), before.sort());
});

test('a client that never releases keeps its session no longer than the router allows', async () => {
  const header = { ...FOUR_PAGES, keepSessionMs: String(36_000_000) };
  const { finished } = await generate(cluster.client, header, idParts(promptOf(7)));
  const leftMs = Number(finished.keptUntilUnixMs) - Date.now();
  assert.ok(leftMs > MAX_KEEP_MS / 2 && leftMs <= MAX_KEEP_MS, `${leftMs}`);
});
