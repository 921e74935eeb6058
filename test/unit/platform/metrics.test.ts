import assert from '../../support/assert.js';
import { test } from 'node:test';
import {
  CANCEL_SECONDS,
  cancelToFreeSeconds,
  LONG_SECONDS,
  makeMetrics,
  promptTokensTotal,
  sessionsGauge,
  startMetricsServer,
  timeToFirstTokenSeconds,
  TOKEN_SECONDS,
} from '../../../services/platform/metrics.js';

/** The sample of a metric that has these labels, whatever their order and the others. */
function valueOf(text: string, name: string, labels: Record<string, string>): number | null {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  const line = text
    .split('\n')
    .find((each) => each.startsWith(`${name}{`) && wanted.every((part) => each.includes(part)));
  return line === undefined ? null : Number(line.slice(line.lastIndexOf(' ')));
}

test('ladders rise; the long one reaches 7,200 s and the promise of 500 ms has a step', () => {
  for (const ladder of [LONG_SECONDS, CANCEL_SECONDS, TOKEN_SECONDS]) {
    assert.deepEqual(
      [...ladder].sort((a, b) => a - b),
      ladder,
    );
  }
  assert.equal(LONG_SECONDS.at(-1), 7_200);
  assert.ok(CANCEL_SECONDS.includes(0.5));
});

test('a metric is made once however often it is asked for', () => {
  const registry = makeMetrics('router');
  assert.equal(cancelToFreeSeconds(registry), cancelToFreeSeconds(registry));
});

test('/metrics serves what was observed, with the service as label', async () => {
  const registry = makeMetrics('router');
  timeToFirstTokenSeconds(registry).observe({ model: 'needle' }, 420.91);
  cancelToFreeSeconds(registry).observe({ phase: 'prefill' }, 0.12);
  promptTokensTotal(registry).inc({ model: 'needle', source: 'computed' }, 1_000_000);
  sessionsGauge(registry).set({ state: 'decoding' }, 3);
  const server = await startMetricsServer('127.0.0.1:0', registry);
  try {
    const answer = await fetch(`http://${server.address}/metrics`);
    const text = await answer.text();
    assert.equal(answer.status, 200);
    const model = 'needle';
    const ttft = 'longshadow_time_to_first_token_seconds_bucket';
    const cancel = 'longshadow_cancel_to_free_seconds_bucket';
    assert.equal(valueOf(text, ttft, { le: '480', model, service: 'router' }), 1);
    assert.equal(valueOf(text, ttft, { le: '240', model, service: 'router' }), 0);
    assert.equal(valueOf(text, cancel, { le: '0.15', phase: 'prefill' }), 1);
    const source = 'computed';
    assert.equal(valueOf(text, 'longshadow_prompt_tokens_total', { model, source }), 1_000_000);
    assert.equal(valueOf(text, 'longshadow_sessions', { state: 'decoding' }), 3);
    assert.match(text, /process_resident_memory_bytes/);
    assert.equal((await fetch(`http://${server.address}/`)).status, 404);
  } finally {
    await server.close();
  }
});

test('metrics are not served to everyone', async () => {
  const refused = { name: 'ServingError', code: 'BAD_REQUEST' };
  await assert.rejects(startMetricsServer('0.0.0.0:0', makeMetrics('router')), refused);
});

test('a taken port is an error, not a crash', async () => {
  const registry = makeMetrics('router');
  const first = await startMetricsServer('127.0.0.1:0', registry);
  await assert.rejects(startMetricsServer(first.address, registry), { code: 'BAD_REQUEST' });
  await first.close();
});
