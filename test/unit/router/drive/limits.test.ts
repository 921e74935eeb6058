import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { GenerationHeader } from '../../../../services/router/admission/generation-header.js';
import { eventually, generate, type RouterWorld, startRouterWorld } from './router-world.js';

const MAX_SESSIONS = 3;
const HEADER: GenerationHeader = {
  ...{ model: 'needle', temperature: 0, topK: 0, topP: null, seed: null, maxNewTokens: 16 },
  ...{ stopTexts: [], ignoreEos: false, prefillPolicy: null, cachePolicy: null, deadlineMs: 0 },
  ...{ tenant: '', maxPromptTokens: 1_000, onDisconnect: 'cancel', resumeGraceMs: null },
  ...{ keepSessionMs: 0, keepExactKeys: false, promptLogprobs: [], forcedTokenIds: [] },
  continueSessionId: null,
};

describe('the limits of a router', () => {
  let world: RouterWorld;
  before(async () => {
    world = await startRouterWorld(MAX_SESSIONS);
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

  test('a session that opens while the router shuts down leaves nothing behind', async () => {
    const opening = world.driver.open(HEADER, { deadlineUnixMs: null, traceparent: null });
    const refused = assert.rejects(opening, /shutting down/);
    await world.driver.shutDown();
    await refused;
    assert.deepEqual(await world.store.records.activeSessionIds(), []);
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
    const late = await generate(world, {}).ended;
    assert.match(late?.details ?? '', /SHUTTING_DOWN/);
  });
});
