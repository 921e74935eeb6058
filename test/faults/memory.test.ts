import { status as grpcStatus, type ServiceError } from '@grpc/grpc-js';
import assert from '../support/assert.js';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, suite } from 'node:test';
import type { ErrorDetails } from '../../services/domain/serving-error.js';
import { unaryCall } from '../../services/platform/rpc/client.js';
import {
  decodeStatusDetails,
  STATUS_DETAILS_TRAILER,
} from '../../services/platform/rpc/status-details.js';
import { assertSameAnswer, type FaultAnswer } from '../support/fault-call.js';
import { FaultCluster } from '../support/fault-cluster.js';
import { faultPrompt } from '../support/fault-prompts.js';
import { faultTest } from '../support/fault-random.js';
import { poll } from '../support/poll.js';
import { run } from '../support/run.js';

/* Memory runs out: refusals say what to do, kept sessions make room, and nothing that runs is hurt. */

/** K and V of a token of the embedded model in bf16. */
const TOKEN_BYTES = 3_072;
/** The least that a session takes. */
const PAGE_BYTES = 512 * TOKEN_BYTES;
/** A prompt and its answer fill two pages. */
const SESSION_TOKENS = 1_024;
const SESSION_BYTES = SESSION_TOKENS * TOKEN_BYTES;
const NEW_TOKENS = 16;
const TURN = [5, 6, 7, 8];
const MAX_KEEP_MS = 60_000;

const promptOf = (variant: number): number[] => faultPrompt(variant, SESSION_TOKENS - 100);
const headerFor = (ids: readonly number[], maxNewTokens = NEW_TOKENS) => ({
  maxNewTokens,
  maxPromptTokens: String(ids.length),
});

suite('a store for three sessions', () => {
  let faults: FaultCluster;
  before(async () => {
    faults = await FaultCluster.start({
      environment: {
        WORKER_STORE_CAPACITY_BYTES: String(Math.floor(3.5 * SESSION_BYTES)),
        ROUTER_MAX_KEEP_SESSION_MS: String(MAX_KEEP_MS),
      },
    });
  });
  after(async () => {
    await faults.stop();
  });
  afterEach(async () => {
    await releaseAll(faults);
    await faults.settle();
  });

  const keep = (variant: number): Promise<FaultAnswer> => {
    const ids = promptOf(variant);
    return faults.call({ ...headerFor(ids), keepSessionMs: '3600000' }, ids).answer;
  };
  const goOnWith = (sessionId: string): Promise<FaultAnswer> =>
    faults.call({ maxNewTokens: 4, continueSessionId: sessionId, keepSessionMs: '3600000' }, TURN)
      .answer;

  faultTest('a prompt that can never fit is refused, and what runs is not hurt', async (random) => {
    const ids = promptOf(0);
    const header = headerFor(ids, 90);
    const expected = await faults.undisturbed(header, ids);
    const running = faults.call(header, ids);
    await running.passes(random.between(1, ids.length));
    const huge = faults.call({ maxPromptTokens: '100000' }, promptOf(1));
    isFullRefusal(await huge.failure());
    assert.equal(huge.events.length, 0);
    assertSameAnswer(await running.answer, expected);
  });

  faultTest('a full store refuses, and takes the next one when there is room', async () => {
    const uploads = [1, 2, 3].map((variant) => {
      const ids = promptOf(variant);
      return faults.call(headerFor(ids), ids, { closes: false });
    });
    for (const upload of uploads) await upload.sees(({ accepted }) => (accepted ?? null) !== null);
    const ids = promptOf(4);
    const refused = await faults.call(headerFor(ids), ids).failure();
    const { retryAfterMs } = isFullRefusal(refused);
    assert.ok((retryAfterMs ?? 0) > 0);
    for (const upload of uploads) upload.closeUpload();
    const answers = await Promise.all(uploads.map(async ({ answer }) => answer));
    await faults.isFree();
    for (const [index, answer] of answers.entries()) {
      const alone = promptOf(index + 1);
      assertSameAnswer(answer, await faults.undisturbed(headerFor(alone), alone));
      await faults.isFree();
    }
    assert.equal((await faults.call(headerFor(ids), ids).answer).ids.length, NEW_TOKENS);
  });

  faultTest('kept sessions make room, the one used longest ago first', async () => {
    const [first, second, third] = [await keep(1), await keep(2), await keep(3)];
    await goOnWith(first.sessionId);
    const ids = promptOf(4);
    await faults.call(headerFor(ids), ids).answer;
    assert.deepEqual(await keptIds(faults), [first.sessionId, third.sessionId].sort());
    const gone = await faults.call({ continueSessionId: second.sessionId }, TURN).failure();
    assert.ok(gone.code === grpcStatus.NOT_FOUND || gone.code === grpcStatus.FAILED_PRECONDITION);
    await goOnWith(first.sessionId);
    await goOnWith(third.sessionId);
  });

  faultTest('a client that keeps all and releases nothing shuts nobody out', async () => {
    const ids: string[] = [];
    for (let variant = 1; variant <= 6; variant += 1) ids.push((await keep(variant)).sessionId);
    const kept = await keptIds(faults);
    assert.ok(kept.length <= 3);
    assert.ok(kept.includes(ids.at(-1) ?? ''));
    const other = promptOf(9);
    await faults.call({ ...headerFor(other), tenant: 'other' }, other).answer;
  });

  faultTest('keep_session_ms is capped, and its end frees the memory', async () => {
    const { finished } = await keep(1);
    const keptMs = Number(finished.keptUntilUnixMs) - Date.now();
    assert.ok(keptMs > 0 && keptMs <= MAX_KEEP_MS, String(keptMs));
    const ids = promptOf(2);
    await faults.call({ ...headerFor(ids), keepSessionMs: '1000' }, ids).answer;
    await poll(
      () => faults.status(),
      ({ sessions }) => sessions.length === 1,
      5_000,
    );
  });
});

suite('a file system that others fill', () => {
  let folder: string;
  let isMounted = false;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
    try {
      await run('mount', ['-t', 'tmpfs', '-o', 'size=32m,mode=700', 'tmpfs', folder]);
      isMounted = true;
    } catch {
      isMounted = false;
    }
  });
  after(async () => {
    if (isMounted) await run('umount', [folder]);
    rmSync(folder, { recursive: true, force: true });
  });

  const full = 'a session that finds it full is refused; one that decodes goes on';
  faultTest(full, async (random, context) => {
    if (!isMounted) {
      context.skip('wants the right to mount a small file system');
      return;
    }
    const faults = await FaultCluster.start({ storeBase: folder });
    try {
      const ids = promptOf(0);
      const header = headerFor(ids, 800);
      const expected = await faults.undisturbed(header, ids);
      const running = faults.call(header, ids);
      await running.says(random.integer(1, 100));
      const { bavail, bsize } = statfsSync(folder);
      const filler = join(folder, 'filler');
      // A page of K of all layers takes 768 KiB: none is left.
      const leftBytes = random.integer(0, 512 * 1_024);
      writeFileSync(filler, Buffer.alloc(bavail * bsize - leftBytes));
      const other = promptOf(1);
      isFullRefusal(await faults.call(headerFor(other), other).failure());
      assertSameAnswer(await running.answer, expected);
      rmSync(filler);
      const late = await poll(
        () => faults.call(headerFor(other), other).answer.catch(() => null),
        (answer) => answer !== null,
        10_000,
        500,
      );
      assert.equal(late?.ids.length, NEW_TOKENS);
      await faults.isFree();
    } finally {
      await faults.stop();
    }
  });

  const small = 'a store that is too small for one page is one clear error at the start';
  faultTest(small, async (random) => {
    const bytes = random.integer(1, PAGE_BYTES);
    const environment = { WORKER_STORE_CAPACITY_BYTES: String(bytes) };
    await assert.rejects(
      FaultCluster.start({ environment }),
      /the worker could not start: .*store/,
    );
  });
});

/** A refusal as programs read it. */
function isFullRefusal(error: ServiceError): ErrorDetails {
  assert.equal(error.code, grpcStatus.RESOURCE_EXHAUSTED, error.details);
  const [bytes] = error.metadata.get(STATUS_DETAILS_TRAILER);
  assert.ok(Buffer.isBuffer(bytes), 'the status has no details');
  const details = decodeStatusDetails(bytes);
  assert.ok(details.retryAfterMs !== undefined, 'there is no RetryInfo');
  assert.ok(details.quota !== undefined, 'there is no QuotaFailure');
  return details;
}

async function keptIds(faults: FaultCluster): Promise<string[]> {
  const { sessions } = await faults.status();
  return sessions
    .filter(({ state }) => state === 'kept')
    .map(({ sessionId }) => sessionId)
    .sort();
}

async function releaseAll(faults: FaultCluster): Promise<void> {
  const { sessions } = await faults.status();
  for (const { sessionId } of sessions) {
    await unaryCall(faults.client(), 'releaseSession', { sessionId }, { timeoutMs: 5_000 });
  }
}
