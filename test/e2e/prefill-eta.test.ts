import assert from '../support/assert.js';
import { after, before, test } from 'node:test';
import { startTestCluster, type TestCluster } from '../support/cluster.js';
import { generate, idParts } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';

/**
 * The law is held to 25 % by its unit test, on known times. Here other work may come or go between
 * the estimate and the end, which no estimate knows: only gross errors (of units, of a chunk's share)
 * are told from it.
 */
const GENEROUS_FACTOR = 4;

let cluster: TestCluster;
before(async () => {
  cluster = await startTestCluster();
});
after(async () => {
  await cluster.stop();
});

test('after a tenth of a prompt of 16K tokens the time left is told', async (t) => {
  const { prompt } = needleSample(2);
  const told: { readonly atMs: number; readonly share: number; readonly etaMs: number }[] = [];
  let doneMs = 0;
  await generate(cluster.client, { maxNewTokens: 1 }, idParts(prompt), ({ progress }) => {
    const total = Number(progress?.totalTokens ?? 0);
    if (!progress || total === 0) return;
    const share = Number(progress.processedTokens) / total;
    const atMs = performance.now();
    if (share === 1) doneMs = atMs;
    else if (Number(progress.etaMs ?? 0) > 0)
      told.push({ atMs, share, etaMs: Number(progress.etaMs) });
  });
  const early = told.find(({ share }) => share >= 0.1);
  assert.ok(early && early.share < 0.3, JSON.stringify(told[0]));
  const tookMs = doneMs - early.atMs;
  const ratio = early.etaMs / tookMs;
  t.diagnostic(
    `at ${(early.share * 100).toFixed(0)} %: told ${String(Math.round(early.etaMs))} ms, ` +
      `took ${String(Math.round(tookMs))} ms (${((ratio - 1) * 100).toFixed(0)} %)`,
  );
  assert.ok(ratio > 1 / GENEROUS_FACTOR && ratio < GENEROUS_FACTOR, `told / took = ${ratio}`);
});
