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

test('gaps between tokens, replayed tokens and turns handed back are counted', async () => {
  const registry = makeMetrics('decode');
  const metrics = decodeMetrics(registry, 'needle');
  metrics.tokenGap(0.02);
  metrics.replayed(300);
  metrics.replayed(12);
  metrics.handedBack('SHUTTING_DOWN');
  metrics.handedBack('SHUTTING_DOWN');
  const text = await registry.metrics();
  assert.match(text, /longshadow_inter_token_seconds_sum\{[^}]*model="needle"\} 0\.02\n/);
  assert.match(text, /longshadow_inter_token_seconds_count\{[^}]*\} 1\n/);
  assert.match(text, /longshadow_replayed_tokens_total\{[^}]*\} 312\n/);
  assert.match(text, /longshadow_turns_handed_back_total\{code="SHUTTING_DOWN"[^}]*\} 2\n/);
});
