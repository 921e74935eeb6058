import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { ServingError, type ErrorCode } from '../../../../services/domain/serving-error.js';
import { makeLog } from '../../../../services/platform/log.js';
import { makeMetrics } from '../../../../services/platform/metrics.js';
import { observeCall } from '../../../../services/platform/rpc/adapter-options.js';
import type { CallContext } from '../../../../services/platform/rpc/call-context.js';

const context: CallContext = {
  signal: new AbortController().signal,
  cancelReason: () => null,
  deadlineUnixMs: null,
  traceparent: null,
  peer: 'test',
  method: '/longshadow.worker.v1.WorkerService/GetHandOff',
  tenant: null,
};

test('a call that is refused is counted by its code, a DATA_LOSS as lost bytes', async () => {
  const metrics = makeMetrics('worker');
  const fail = (error: unknown): void => {
    observeCall({ log: makeLog('test', 'silent'), metrics }, context).failed(error);
  };
  const codes: ErrorCode[] = ['VALUE_STORE_FULL', 'VALUE_STORE_FULL', 'DATA_LOSS', 'CANCELLED'];
  for (const code of codes) fail(new ServingError(code, 'no'));
  fail(new Error('a bug'));
  const valuesOf = async (name: string): Promise<unknown> =>
    (await metrics.getSingleMetric(name)?.get())?.values.map(({ labels, value }) => [
      labels,
      value,
    ]);
  assert.deepEqual(await valuesOf('longshadow_refusals_total'), [
    [{ code: 'VALUE_STORE_FULL' }, 2],
  ]);
  assert.deepEqual(await valuesOf('longshadow_data_loss_total'), [[{ kind: 'GetHandOff' }, 1]]);
});
