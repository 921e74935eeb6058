import assert from '../../support/assert.js';
import { test } from 'node:test';
import { closeUnused } from '../../../services/router/close-unused.js';
import { ClientPool } from '../../../services/router/rpc/client-pool.js';
import { fakeMember } from './drive/fake-members.js';

test('connections to members that left are closed, but for those that sessions are on', async () => {
  const closed: string[] = [];
  const pool = new ClientPool((address) => ({ close: () => closed.push(address) }));
  const here = fakeMember('worker', { memberId: 'here', address: 'here:1' });
  const used = fakeMember('worker', { memberId: 'used', address: 'used:1' });
  const left = fakeMember('worker', { memberId: 'left', address: 'left:1' });
  for (const { address } of [here, used, left]) pool.get(address);
  const kept: string[] = [];
  await closeUnused({
    fleet: { members: async () => Promise.resolve([here]) },
    driver: { members: () => [used] },
    queues: {
      retain: (workerIds) => {
        kept.push(...workerIds);
      },
    },
    clients: [pool],
  });
  assert.deepEqual(closed, ['left:1']);
  assert.deepEqual(kept.sort(), ['here', 'used']);
  pool.get('left:1');
  pool.close();
  assert.deepEqual(closed.sort(), ['here:1', 'left:1', 'left:1', 'used:1']);
});
