import assert from '../support/assert.js';
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateResponse__Output } from '../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { GetStatusResponse__Output } from '../../proto/gen/longshadow/router/v1/GetStatusResponse.js';
import { heldBy, MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { generate, idParts } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';
import { isPrefillDone, openCall } from '../support/open-call.js';
import { poll } from '../support/poll.js';

/** From the router's seeing the disconnect, which comes after the kill, to everything free. */
const FREE_WITHIN_MS = 500;

let cluster: TestCluster;
let baseline: string;
before(async () => {
  cluster = await startTestCluster();
  const { prompt, answer } = needleSample(0);
  // Once through, so that what is allocated lazily is there.
  const warm = await generate(cluster.client, { maxNewTokens: 8 }, idParts(prompt));
  assert.deepEqual(warm.ids.slice(0, answer.length), answer);
  const status = await poll(
    () => cluster.status(),
    ({ sessions, members }) =>
      sessions.length === 0 && members.every((member) => member.mappings === '0'),
    5_000,
  );
  baseline = JSON.stringify(heldBy(status.members));
});
after(async () => {
  await cluster.stop();
});

/** A client in a process of its own, and the events it has seen. */
class Victim {
  readonly events: GenerateResponse__Output[] = [];
  readonly #process: ChildProcess;

  constructor(header: GenerateHeader, ids: readonly number[], halfClose: boolean) {
    const script = fileURLToPath(new URL('../support/victim-client.ts', import.meta.url));
    this.#process = spawn(process.execPath, ['--import', 'tsx', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process.stdin?.end(
      JSON.stringify({
        address: cluster.address,
        header: { model: MODEL, ignoreEos: true, ...header },
        ids,
        halfClose,
      }),
    );
    assert.ok(this.#process.stdout);
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      this.events.push(JSON.parse(line) as GenerateResponse__Output);
    });
  }

  async sees(wanted: (event: GenerateResponse__Output) => boolean): Promise<void> {
    await poll(
      () => this.events,
      (events) => events.some(wanted),
      60_000,
      2,
    );
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }
}

function isFree({ sessions, members }: GetStatusResponse__Output): boolean {
  return sessions.length === 0 && JSON.stringify(heldBy(members)) === baseline;
}

async function freesAfterKill(victim: Victim): Promise<void> {
  const held = await cluster.status();
  assert.equal(held.sessions.length, 1, JSON.stringify(held.sessions));
  victim.kill();
  await poll(() => cluster.status(), isFree, FREE_WITHIN_MS);
}

test('killed while it uploads', async () => {
  const victim = new Victim({}, needleSample(1).prompt.slice(0, 5_000), false);
  await poll(
    () => cluster.status(),
    ({ sessions, members }) =>
      sessions[0]?.state === 'uploading' && members.some((member) => member.storeFiles !== '0'),
    60_000,
  );
  await freesAfterKill(victim);
});

test('killed while it is queued behind others', async () => {
  const others = [0, 1].map(() => new Victim({}, needleSample(2).prompt, true));
  for (const other of others)
    await other.sees(({ progress }) => Number(progress?.processedTokens) > 0);
  const victim = new Victim({}, needleSample(2).prompt, true);
  await victim.sees(({ queued }) => queued !== undefined && queued !== null);
  const id = victim.events[0]?.sessionId;
  victim.kill();
  await poll(
    () => cluster.status(),
    ({ sessions }) => !sessions.some(({ sessionId }) => sessionId === id),
    FREE_WITHIN_MS,
  );
  for (const other of others) other.kill();
  await poll(() => cluster.status(), isFree, FREE_WITHIN_MS);
});

test('killed in the middle of prefill', async () => {
  const { prompt } = needleSample(2);
  const victim = new Victim({}, prompt, true);
  await victim.sees(
    ({ progress }) =>
      Number(progress?.processedTokens) > 4_000 &&
      Number(progress?.processedTokens) < prompt.length / 2,
  );
  await freesAfterKill(victim);
});

test('killed at the last progress of prefill: sealing, or decode just starts', async () => {
  const victim = new Victim({ maxNewTokens: 4_000 }, needleSample(0).prompt, true);
  await victim.sees(isPrefillDone);
  victim.kill();
  await poll(() => cluster.status(), isFree, FREE_WITHIN_MS);
});

// A killed process is seen some milliseconds late; a reset stream at once.
for (const afterMs of [0, 3, 6, 12]) {
  test(`gone ${afterMs} ms after the last progress of prefill`, async () => {
    const call = openCall(cluster.client, { maxNewTokens: 4_000 }, needleSample(0).prompt);
    await call.sees(isPrefillDone);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    call.leave();
    await poll(() => cluster.status(), isFree, FREE_WITHIN_MS);
  });
}

test('killed while a second turn is appended', async () => {
  const continueSessionId = await keptSession({ keepSessionMs: 60_000 });
  const victim = new Victim(
    { maxNewTokens: 4_000, continueSessionId },
    needleSample(1).prompt.slice(0, 100),
    true,
  );
  await victim.sees(({ accepted }) => (accepted ?? null) !== null);
  victim.kill();
  await poll(() => cluster.status(), isFree, FREE_WITHIN_MS);
});

test('gone at the first event of a second turn', async () => {
  const continueSessionId = await keptSession({ keepSessionMs: 60_000 });
  const call = openCall(
    cluster.client,
    { maxNewTokens: 4_000, continueSessionId },
    needleSample(1).prompt.slice(0, 100),
  );
  await call.sees(({ accepted }) => (accepted ?? null) !== null);
  call.leave();
  await poll(() => cluster.status(), isFree, FREE_WITHIN_MS);
});

test('killed while it decodes', async () => {
  const victim = new Victim({ maxNewTokens: 4_000 }, needleSample(0).prompt, true);
  await victim.sees(({ token }) => (token?.index ?? 0) >= 5);
  await freesAfterKill(victim);
});

test('with on_disconnect = keep the session runs on without its client, then is released', async () => {
  const victim = new Victim(
    { maxNewTokens: 200, onDisconnect: 'ON_DISCONNECT_KEEP', resumeGraceMs: 30_000 },
    needleSample(0).prompt,
    true,
  );
  await victim.sees(({ token }) => (token?.index ?? 0) >= 1);
  const stepsBefore = await decodeSteps();
  victim.kill();
  await poll(() => cluster.status(), isFree, 60_000);
  assert.ok((await decodeSteps()) - stepsBefore > 100);
});

test('with on_disconnect = keep the session ends when nobody has come back in time', async () => {
  const victim = new Victim(
    { maxNewTokens: 100_000, onDisconnect: 'ON_DISCONNECT_KEEP', resumeGraceMs: 1_000 },
    needleSample(0).prompt,
    true,
  );
  await victim.sees(({ token }) => (token?.index ?? 0) >= 1);
  victim.kill();
  const killedMs = performance.now();
  await poll(() => cluster.status(), isFree, 1_000 + 3_000);
  assert.ok(performance.now() - killedMs >= 1_000);
});

test('a grace that ends during a later, connected turn does not hurt that turn', async () => {
  const graceMs = 3_000;
  const victim = new Victim(
    {
      maxNewTokens: 40,
      keepSessionMs: 60_000,
      onDisconnect: 'ON_DISCONNECT_KEEP',
      resumeGraceMs: graceMs,
    },
    needleSample(0).prompt,
    true,
  );
  await victim.sees(({ token }) => (token?.index ?? 0) >= 1);
  victim.kill();
  const goneMs = performance.now();
  const continueSessionId = victim.events[0]?.sessionId ?? '';
  await untilKept(continueSessionId);
  const call = openCall(
    cluster.client,
    { maxNewTokens: 20_000, continueSessionId },
    needleSample(1).prompt.slice(0, 20),
  );
  await call.sees(({ token }) => (token ?? null) !== null);
  assert.ok(performance.now() - goneMs < graceMs, 'the turn began too late to test anything');
  const overMs = goneMs + graceMs + 1_000;
  await poll(
    () => performance.now(),
    (now) => now > overMs,
    10_000,
    50,
  );
  const seen = call.events.length;
  await poll(
    () => call.events.length,
    (now) => now > seen,
    2_000,
  );
  call.leave();
  await poll(() => cluster.status(), isFree, FREE_WITHIN_MS);
});

test('afterwards the cluster answers as before', async () => {
  const { prompt, answer } = needleSample(0);
  const result = await generate(cluster.client, { maxNewTokens: 20 }, idParts(prompt));
  assert.deepEqual(result.ids.slice(0, answer.length), answer);
});

async function decodeSteps(): Promise<number> {
  const { members } = await cluster.status();
  return Number(members.find(({ role }) => role === 'decode')?.decodeSteps);
}

/** Its id, once it is idle. */
async function keptSession(header: GenerateHeader): Promise<string> {
  const { sessionId } = await generate(
    cluster.client,
    { maxNewTokens: 4, ignoreEos: true, ...header },
    idParts(needleSample(0).prompt.slice(0, 600)),
  );
  await untilKept(sessionId);
  return sessionId;
}

async function untilKept(wanted: string): Promise<void> {
  await poll(
    () => cluster.status(),
    ({ sessions }) =>
      sessions.some(({ sessionId, state }) => sessionId === wanted && state === 'kept'),
    30_000,
  );
}
