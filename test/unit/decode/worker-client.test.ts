import assert from '../../support/assert.js';
import { test } from 'node:test';
import { MAX_HAND_OFF_BYTES, WorkerClients } from '../../../services/decode/rpc/worker-client.js';
import { makeLog } from '../../../services/platform/log.js';
import { makeMetrics } from '../../../services/platform/metrics.js';
import { loadService } from '../../../services/platform/rpc/load-service.js';
import { startServer } from '../../../services/platform/rpc/server.js';
import { workerService } from '../../../services/worker/rpc/worker-service.js';

const SESSION = { sessionId: 'a'.repeat(32), epoch: 1 };

test('a hand-off past its bound is DATA_LOSS; one at the bound is taken', async () => {
  const log = makeLog('test', 'silent');
  let bytes = MAX_HAND_OFF_BYTES;
  const operations = {
    handOff: () => Promise.resolve(new Uint8Array(bytes)),
    reuse: () => assert.fail('not asked for'),
    release: () => Promise.resolve(0),
    status: () => assert.fail('not asked for'),
  };
  const server = await startServer({
    address: '127.0.0.1:0',
    tls: null,
    services: [
      {
        definition: loadService('worker'),
        implementation: workerService(operations, { log, metrics: makeMetrics('worker') }),
      },
    ],
    log,
  });
  const workers = new WorkerClients(null);
  const fetch = () => workers.fetchHandOff(server.address, SESSION, new AbortController().signal);
  try {
    assert.equal((await fetch()).length, MAX_HAND_OFF_BYTES);
    bytes += 1;
    await assert.rejects(fetch(), { code: 'DATA_LOSS' });
    assert.ok(MAX_HAND_OFF_BYTES <= 2 ** 26, 'a bound, not a formality');
  } finally {
    workers.close();
    await server.close(1_000);
  }
});
