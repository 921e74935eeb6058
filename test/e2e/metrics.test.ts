import assert from '../support/assert.js';
import { status } from '@grpc/grpc-js';
import { after, before, test } from 'node:test';
import { MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { freePort } from '../support/free-port.js';
import { exchange, generate, idParts } from '../support/generate.js';
import {
  documentedSeries,
  exportedSeries,
  sampleSum,
  scrape,
  type ExportedSeries,
} from '../support/metrics-page.js';
import { needleSample } from '../support/needle-samples.js';
import { openCall } from '../support/open-call.js';
import { poll } from '../support/poll.js';
import { readProjectFile } from '../unit/repo/project-files.js';

const SERVICES = ['router', 'worker', 'decode'] as const;
type Service = (typeof SERVICES)[number];

const documented = documentedSeries(readProjectFile('docs/metrics.md'));
const ports = {} as Record<Service, number>;
const pages = {} as Record<Service, string>;
const { prompt, answer } = needleSample(0);

let cluster: TestCluster;
before(async () => {
  for (const service of SERVICES) ports[service] = await freePort();
  cluster = await startTestCluster(
    {},
    { memberEnvironment: (role) => ({ METRICS_LISTEN: `127.0.0.1:${String(ports[role])}` }) },
  );
  await work();
  for (const service of SERVICES) {
    pages[service] = await scrape(ports[service]);
  }
});
after(async () => {
  await cluster.stop();
});

/** One good turn, one refused, and two cancelled: in prefill and in the answer. */
async function work(): Promise<void> {
  await generate(cluster.client, { maxNewTokens: 20 }, idParts(prompt));
  await assert.rejects(exchange(cluster.client, [{ header: { model: 'no-such-model' } }]), {
    code: status.NOT_FOUND,
  });
  const answering = openCall(cluster.client, { maxNewTokens: 4_000 }, prompt);
  await answering.sees(({ token }) => token?.index === 2);
  answering.leave();
  const long = Array.from({ length: 30_000 }, (_, index) => prompt[index % prompt.length] ?? 0);
  const prefilling = openCall(cluster.client, { maxNewTokens: 4 }, long);
  await prefilling.sees(({ progress }) => Number(progress?.processedTokens ?? 0) > 0);
  prefilling.leave();
  await poll(
    () => cluster.status(),
    ({ sessions, members }) =>
      sessions.length === 0 && members.every(({ sessions: held }) => held === 0),
    10_000,
  );
}

function documentedOf(service: Service): Map<string, ExportedSeries> {
  const title = `${service.charAt(0).toUpperCase()}${service.slice(1)}`;
  const sections = [documented.get('Every service'), documented.get(title)];
  return new Map(sections.flatMap((section) => [...(section ?? [])]));
}

const types = (series: ReadonlyMap<string, ExportedSeries>): string[] =>
  [...series].map(([name, { type }]) => `${name} ${type}`).sort();

for (const service of SERVICES) {
  test(`docs/metrics.md has all series of a ${service}, with their types, and no other`, () => {
    assert.deepEqual(types(exportedSeries(pages[service])), types(documentedOf(service)));
  });

  test(`labels of a ${service}'s series are those of docs/metrics.md`, () => {
    const samples = [...exportedSeries(pages[service])].filter(([, { labels }]) => labels.size > 0);
    for (const [name, { labels }] of samples) {
      const expected = documentedOf(service).get(name)?.labels ?? new Set();
      assert.deepEqual([...labels].sort(), [...expected].sort(), name);
    }
  });
}

test('a router counts what it answered, refused and lost', () => {
  const page = pages.router;
  const counts = (name: string, labels: Record<string, string>): number =>
    sampleSum(page, `longshadow_${name}`, labels);
  assert.equal(counts('rpc_seconds_count', { method: 'Generate', code: 'OK' }), 1);
  assert.equal(counts('rpc_seconds_count', { method: 'Generate', code: 'NOT_FOUND' }), 1);
  assert.equal(counts('rpc_seconds_count', { method: 'Generate', code: 'CANCELLED' }), 2);
  assert.equal(counts('refusals_total', {}), 1);
  assert.equal(counts('refusals_total', { code: 'UNKNOWN_MODEL' }), 1);
  assert.equal(counts('sessions_ended_total', { outcome: 'finished' }), 1);
  assert.equal(counts('sessions_ended_total', { outcome: 'CANCELLED' }), 2);
  assert.equal(counts('prompt_tokens_total', { source: 'computed' }), prompt.length);
  assert.equal(counts('prompt_tokens_total', { source: 'cached' }), 0);
  assert.equal(counts('generated_tokens_total', { model: MODEL }), answer.length + 1);
  assert.equal(counts('time_to_first_token_seconds_count', { model: MODEL }), 2);
  assert.equal(counts('cancel_to_free_seconds_count', { phase: 'decoding' }), 1);
  assert.equal(counts('cancel_to_free_seconds_count', {}), 2);
  assert.equal(counts('sessions', {}), 0);
});

test('a worker counts its jobs, their waits and what it ran', () => {
  const page = pages.worker;
  assert.ok(sampleSum(page, 'longshadow_prefill_tokens_total') >= 2 * prompt.length);
  const prefills = sampleSum(page, 'longshadow_chunk_seconds_count', {
    kind: 'prefill',
    stage: '0',
  });
  assert.ok(prefills >= 3);
  assert.equal(sampleSum(page, 'longshadow_chunk_seconds_count', { kind: 'seal', stage: '0' }), 2);
  assert.ok(sampleSum(page, 'longshadow_queue_wait_seconds_count', { kind: 'prefill' }) >= 3);
  assert.ok(sampleSum(page, 'longshadow_prefill_engine_seconds_total') > 0);
  assert.equal(sampleSum(page, 'longshadow_queue_depth'), 0);
  assert.equal(sampleSum(page, 'longshadow_store_bytes', { kind: 'files' }), 0);
  assert.ok(sampleSum(page, 'longshadow_store_bytes', { kind: 'free' }) > 0);
});

test('a decode counts steps and tokens, and the gaps between them', () => {
  const page = pages.decode;
  const generated = sampleSum(page, 'longshadow_generated_tokens_total', { model: MODEL });
  assert.ok(generated >= answer.length + 4);
  assert.ok(sampleSum(page, 'longshadow_decode_step_seconds_count') >= answer.length);
  const gaps = sampleSum(page, 'longshadow_inter_token_seconds_count', { model: MODEL });
  // A token that the cancel met in its step was generated, and went nowhere.
  assert.ok(gaps === generated - 2 || gaps === generated - 3, `${gaps} of ${generated}`);
  assert.equal(sampleSum(page, 'longshadow_time_per_output_token_seconds_count'), 1);
  assert.ok(sampleSum(page, 'longshadow_cancel_to_free_seconds_count', { phase: 'decode' }) >= 1);
  assert.equal(sampleSum(page, 'longshadow_store_bytes', { kind: 'private' }), 0);
  assert.equal(sampleSum(page, 'longshadow_store_bytes', { kind: 'mapped' }), 0);
  const kinds = [...page.matchAll(/^longshadow_store_bytes\{[^}]*kind="(\w+)"/gm)];
  assert.deepEqual(
    kinds.map(([, kind]) => kind),
    ['mapped', 'private'],
    'the files are told by the workers',
  );
});
