import assert from '../../../support/assert.js';
import { after, before, test } from 'node:test';
import { unaryCall } from '../../../../services/platform/rpc/client.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { startRelayWorld, type RelayWorld } from './relay-world.js';

let world: RelayWorld;
before(async () => {
  world = await startRelayWorld({
    fork: async (sessionId, keepSessionMs) => {
      if (keepSessionMs === 1) throw new ServingError('SESSION_BUSY', 'a turn runs');
      const keptUntilUnixMs = 1_764_000_000_000 + keepSessionMs + 0.4;
      return Promise.resolve({
        sessionId: sessionId.replace(/^./, 'f'),
        keptUntilUnixMs,
        tokens: 5,
      });
    },
  });
});
after(async () => {
  await world.stop();
});

const OPTIONS = { timeoutMs: 5_000 };

test('Fork asks the driver and says what came of it', async () => {
  const sessionId = '0'.repeat(32);
  const answer = await unaryCall(
    world.client,
    'fork',
    { sessionId, keepSessionMs: 2_000 },
    OPTIONS,
  );
  assert.deepEqual(answer, {
    sessionId: `f${'0'.repeat(31)}`,
    keptUntilUnixMs: '1764000002000',
    tokens: '5',
  });
});

test('what is no session id is refused before the driver is asked; its refusals are passed on', async () => {
  await assert.rejects(unaryCall(world.client, 'fork', { sessionId: 'x' }, OPTIONS), {
    code: 'BAD_REQUEST',
  });
  const busy = { sessionId: '0'.repeat(32), keepSessionMs: 1 };
  await assert.rejects(unaryCall(world.client, 'fork', busy, OPTIONS), { code: 'SESSION_BUSY' });
});
