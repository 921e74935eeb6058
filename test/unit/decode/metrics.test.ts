import assert from '../../support/assert.js';
import { test } from 'node:test';
import { decodeMetrics } from '../../../services/decode/metrics.js';
import { makeMetrics } from '../../../services/platform/metrics.js';

test('a finished turn tells its mean time per token after the first; lost bytes are counted', async () => {
  const registry = makeMetrics('decode');
  const metrics = decodeMetrics(registry, 'needle');
  metrics.finished({ completionTokens: 1, decodeMs: 0 });
  metrics.finished({ completionTokens: 5, decodeMs: 400 });
  metrics.failed('DATA_LOSS');
  metrics.failed('DEADLINE_EXCEEDED');
  const text = await registry.metrics();
  assert.match(text, /longshadow_time_per_output_token_seconds_sum\{[^}]*\} 0\.1\n/);
  assert.match(text, /longshadow_time_per_output_token_seconds_count\{[^}]*\} 1\n/);
  assert.match(text, /longshadow_data_loss_total\{kind="decode"[^}]*\} 1\n/);
});
