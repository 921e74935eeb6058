import assert from '../../../support/assert.js';
import { after, before, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { GenerationHeader } from '../../../../services/router/admission/generation-header.js';
import { eventually, generate, type RouterWorld, startRouterWorld } from './router-world.js';

const MAX_SESSIONS = 3;
const UPLOAD_IDLE_MS = 1_500;
const HEADER: GenerationHeader = {
  ...{ model: 'needle', temperature: 0, topK: 0, topP: null, seed: null, maxNewTokens: 16 },
  ...{ stopTexts: [], ignoreEos: false, prefillPolicy: null, cachePolicy: null, sparse: null },
  deadlineMs: 0,
  ...{
    tenant: '',
    priority: 'normal',
    maxPromptTokens: 1_000,
    onDisconnect: 'cancel',
    resumeGraceMs: null,
  },
  ...{ keepSessionMs: 0, keepExactKeys: false, promptLogprobs: [], forcedTokenIds: [] },
  continueSessionId: null,
};

describe('the limits of a router', () => {
  let world: RouterWorld;
  before(async () => {
    world = await startRouterWorld(MAX_SESSIONS, UPLOAD_IDLE_MS);
  });
  after(async () => {
    await world.stop();
  });

  test('hold for headers that come in one burst', async () => {
    const calls = Array.from({ length: 20 }, () => generate(world, {}));
    const refused: number[] = [];
    calls.forEach((call, at) => {
      void call.ended.then((error) => {
        if (error?.code === status.RESOURCE_EXHAUSTED) refused.push(at);
      });
    });
    await eventually('the rest is refused', () => refused.length === 20 - MAX_SESSIONS);
    const sessionIds = (): string[] =>
      calls.flatMap(({ responses }) => responses.slice(0, 1).map(({ sessionId }) => sessionId));
    await eventually('the others are accepted', () => sessionIds().length === MAX_SESSIONS);
    for (const call of calls) call.cancel();
    await eventually('all are left', () =>
      sessionIds().every((sessionId) => world.driver.find(sessionId) === null),
    );
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
  });

  test('an upload that sends nothing ends, with its parts or without', async () => {
    for (const parts of [0, 1]) {
      const call = generate(world, {});
      for (let i = 0; i < parts; i += 1) call.send({ text: Buffer.from('the beginning') });
      const error = await call.ended;
      assert.equal(error?.code, status.DEADLINE_EXCEEDED);
      assert.match(error.details, /no part .* 1500 ms; .*ROUTER_UPLOAD_IDLE_MS/);
      const { sessionId } = call.responses[0] ?? { sessionId: '' };
      await eventually('it is left', () => world.driver.find(sessionId) === null);
    }
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
  });

  test('an upload that pauses for less goes on', async () => {
    const call = generate(world, { maxNewTokens: 4 });
    for (let i = 0; i < 3; i += 1) {
      call.send({ text: Buffer.from('more ') });
      await new Promise((resolve) => setTimeout(resolve, UPLOAD_IDLE_MS / 4));
    }
    call.close();
    assert.equal(await call.ended, null);
  });

  test('a session that opens while the router shuts down leaves nothing behind', async () => {
    const opening = world.driver.open(HEADER, { deadlineUnixMs: null, traceparent: null });
    const refused = assert.rejects(opening, /shutting down/);
    await world.driver.shutDown(0);
    await refused;
    assert.deepEqual(await world.store.records.activeSessionIds(), []);
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
    const late = await generate(world, {}).ended;
    assert.match(late?.details ?? '', /SHUTTING_DOWN/);
  });
});
