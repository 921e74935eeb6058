import assert from '../support/assert.js';
import { status } from '@grpc/grpc-js';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { SparseReport__Output } from '../../proto/gen/longshadow/router/v1/SparseReport.js';
import { startTestCluster, type TestCluster } from '../support/cluster.js';
import { type Answer, exchange, generate, idParts } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';

/** 8,192 ids: the dense threshold leaves all chunks but the rows of the tail sparse. */
const { prompt, answer } = needleSample(1);
const NEEDLE_LAYERS = 6;
const MINFERENCE = {
  prefillPolicy: 'PREFILL_POLICY_MINFERENCE',
  sparsePrefill: { denseBelowTokens: 512, tilesPerBlock: 32 },
} as const;

describe('a session with minference prefill', () => {
  let cluster: TestCluster;
  let sparse: Answer;
  let base: string;
  before(async () => {
    base = mkdtempSync('/dev/shm/longshadow-test-');
    const environment = { ROUTER_SPARSE_GUARD_INTERVAL: '1' };
    cluster = await startTestCluster(environment, { storeBase: base });
    const header = { ...MINFERENCE, maxNewTokens: answer.length, keepSessionMs: 60_000 };
    sparse = await generate(cluster.client, header, idParts(prompt));
  });
  after(async () => {
    await cluster.stop();
    rmSync(base, { recursive: true, force: true });
  });

  const reportOf = ({ finished }: Answer): SparseReport__Output | null =>
    finished.report?.sparsePrefill ?? null;
  /** Without what was dense: the prompt's last rows. */
  const headsOf = (turn: Answer) =>
    (reportOf(turn)?.densities ?? []).filter(({ pattern }) => pattern !== 'HEAD_PATTERN_DENSE');
  const sum = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0);

  test('answers as dense attention does', () => {
    assert.deepEqual(sparse.ids, answer);
  });

  test('has key-bounds heads, since no pattern file says otherwise', () => {
    const patterns = headsOf(sparse).map(({ pattern }) => pattern);
    assert.deepEqual(patterns, ['HEAD_PATTERN_KEY_BOUNDS']);
  });

  test('answers the same with FlexPrefill, which needs no pattern file', async () => {
    const flex = await generate(
      cluster.client,
      { ...MINFERENCE, prefillPolicy: 'PREFILL_POLICY_FLEXPREFILL', maxNewTokens: answer.length },
      idParts(prompt),
    );
    assert.deepEqual(flex.ids, answer);
    const [heads, ...others] = headsOf(flex);
    assert.deepEqual([heads?.pattern, others], ['HEAD_PATTERN_FLEX', []]);
    assert.ok((heads?.density ?? 1) < 0.95);
  });

  test('costs no more than the window beside it, which has all its tiles and chooses none', async () => {
    const shaped = await generate(
      cluster.client,
      { ...MINFERENCE, prefillPolicy: 'PREFILL_POLICY_A_SHAPE', maxNewTokens: 1 },
      idParts(prompt),
    );
    const { prefillPolicy, sparsePrefill } = shaped.finished.report ?? {};
    assert.equal(prefillPolicy, 'PREFILL_POLICY_A_SHAPE');
    assert.equal(sparsePrefill?.thresholds?.patternsSha256, '');
    const [window, ...others] = headsOf(shaped);
    assert.deepEqual([window?.pattern, others], ['HEAD_PATTERN_A_SHAPE', []]);
    const blocks = Array.from({ length: Math.floor((prompt.length - 128) / 64) }, (_, at) => at);
    const seen = sum(blocks.map((block) => Math.min(block + 1, 32)));
    const density = seen / sum(blocks.map((block) => block + 1));
    assert.ok(Math.abs((window?.density ?? 0) - density) < 1e-9, `${window?.density}`);
    const chosen = headsOf(sparse).map((heads) => Number(heads.attendedKeys));
    assert.ok(sum(chosen) <= Number(window?.attendedKeys));
  });

  test('says its thresholds when it is accepted', () => {
    const accepted = sparse.events[0]?.accepted;
    assert.equal(accepted?.prefillPolicy, 'PREFILL_POLICY_MINFERENCE');
    assert.equal(accepted.sparsePrefill?.tilesPerBlock, 32);
    assert.equal(accepted.sparsePrefill.denseBelowTokens, 512);
    assert.match(accepted.sparsePrefill.patternsSha256, /^[0-9a-f]{64}$/);
  });

  test('reports how few keys it attended to, at what price, and how far off it was', () => {
    const report = reportOf(sparse);
    assert.ok(report);
    assert.equal(Number(report.sparseTokens), prompt.length);
    assert.deepEqual([Number(report.denseTokens), Number(report.reusedTokens)], [0, 0]);
    assert.ok(headsOf(sparse).length > 0);
    for (const { pattern, density, attendedKeys, causalKeys } of headsOf(sparse)) {
      assert.ok(density > 0 && density < 0.95, `${pattern}: ${density}`);
      assert.ok(Number(attendedKeys) < Number(causalKeys), pattern);
    }
    const keys = (counts: readonly string[]): number => sum(counts.map(Number));
    const attended = keys(report.layerAttendedKeys);
    const causal = keys(report.layerCausalKeys);
    assert.deepEqual(
      [report.layerAttendedKeys.length, report.density],
      [NEEDLE_LAYERS, attended / causal],
    );
    assert.equal(new Set(report.layerCausalKeys).size, 1, 'dense attention is alike in all layers');
    assert.equal(keys(report.densities.map(({ attendedKeys }) => attendedKeys)), attended);
    assert.equal(keys(report.densities.map(({ causalKeys }) => causalKeys)), causal);
    assert.ok(report.selectionShare > 0 && report.selectionShare < 1);
    assert.ok(Number(report.attentionMicros) > 0);
    assert.ok(Number(report.guardBlocks) > 0);
    assert.ok(report.guardErrorMean > 0 && report.guardErrorMean <= report.guardErrorMax);
    assert.ok(report.guardErrorMean < 0.5, `${report.guardErrorMean}`);
  });

  test('shares its chunks with an equal prompt of equal thresholds, and with no other', async () => {
    const same = await generate(
      cluster.client,
      { ...MINFERENCE, maxNewTokens: answer.length },
      idParts(prompt),
    );
    assert.deepEqual(same.ids, answer);
    const cached = Number(same.finished.usage?.cachedTokens);
    assert.ok(cached > 0);
    const report = reportOf(same);
    assert.equal(Number(report?.reusedTokens), cached);
    assert.equal(Number(report?.sparseTokens), prompt.length - cached);
    const sparsePrefill = { ...MINFERENCE.sparsePrefill, tilesPerBlock: 33 };
    for (const header of [{ ...MINFERENCE, sparsePrefill }, {}]) {
      const other = await generate(
        cluster.client,
        { ...header, maxNewTokens: answer.length },
        idParts(prompt),
      );
      assert.deepEqual(other.ids, answer);
      assert.equal(Number(other.finished.usage?.cachedTokens), 0);
    }
  });

  test('keeps its thresholds in later turns, which may not name others', async () => {
    const header = {
      ...{ model: 'needle', continueSessionId: sparse.sessionId, maxNewTokens: 1 },
      keepSessionMs: 60_000,
    };
    await assert.rejects(
      exchange(cluster.client, [
        { header: { ...header, ...MINFERENCE } },
        { part: { tokenIds: { ids: [5] } } },
      ]),
      { code: status.INVALID_ARGUMENT, details: /^BAD_REQUEST: sparse_prefill must be unset/ },
    );
    await assert.rejects(
      exchange(cluster.client, [
        { header: { ...header, prefillPolicy: 'PREFILL_POLICY_DENSE' } },
        { part: { tokenIds: { ids: [5] } } },
      ]),
      { code: status.INVALID_ARGUMENT, details: /prefill_policy is dense, .* has minference/ },
    );
    const turn = Array.from({ length: 5_000 }, (_, index) => prompt[index] ?? 0);
    const long = await generate(cluster.client, header, idParts(turn));
    assert.equal(long.finished.report?.prefillPolicy, 'PREFILL_POLICY_MINFERENCE');
    const report = reportOf(long);
    assert.equal(report?.thresholds?.tilesPerBlock, 32);
    assert.ok(Number(report.sparseTokens) >= turn.length);
    assert.equal(Number(report.reusedTokens), Number(long.finished.usage?.cachedTokens));
  });

  test('answers a long turn with the same bits where its segments are gone and all runs again', async () => {
    const turn = prompt.slice(0, 5_000);
    const answers = [];
    for (const tenant of ['undisturbed', 'disturbed']) {
      const header = { ...MINFERENCE, tenant, maxNewTokens: 2, keepSessionMs: 60_000 };
      const { sessionId } = await generate(cluster.client, header, idParts(prompt.slice(0, 3_000)));
      if (tenant === 'disturbed') dropSegments(sessionId);
      const promptLogprobs = [{ beginToken: 2_900, endToken: 8_000 }];
      const more = { tenant, continueSessionId: sessionId, maxNewTokens: 8, promptLogprobs };
      answers.push(await generate(cluster.client, more, idParts(turn)));
    }
    const [kept, again] = answers;
    assert.equal(kept?.finished.report?.promptReran, false);
    assert.equal(again?.finished.report?.promptReran, true);
    assert.ok(Number(again.finished.report.sparsePrefill?.sparseTokens) > 7_000);
    assert.equal(kept.promptLogprobs.length, 5_100);
    assert.deepEqual(again.promptLogprobs, kept.promptLogprobs);
    assert.deepEqual(again.tokens, kept.tokens);
  });

  function dropSegments(sessionId: string): void {
    const folders = readdirSync(base, { recursive: true, encoding: 'utf8' });
    const folder = folders.find((path) => path.endsWith(`/${sessionId}`));
    assert.ok(folder !== undefined, 'the session has files in the value store');
    rmSync(join(base, folder), { recursive: true });
  }

  test('is dense, and says so, where the prompt is shorter than the threshold', async () => {
    const header = { prefillPolicy: 'PREFILL_POLICY_MINFERENCE', maxNewTokens: 1 } as const;
    const short = await generate(cluster.client, header, idParts(prompt.slice(0, 1_000)));
    const report = reportOf(short);
    assert.equal(report?.thresholds?.denseBelowTokens, 8_192);
    assert.deepEqual([Number(report.sparseTokens), Number(report.denseTokens)], [0, 1_000]);
    assert.deepEqual(
      report.densities.map(({ pattern, density }) => [pattern, density]),
      [['HEAD_PATTERN_DENSE', 1]],
    );
    assert.equal(report.density, 1);
  });
});

describe('pattern files of a cluster', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'longshadow-e2e-patterns-'));
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  function write(name: string, text: string): string {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  }

  /** A cluster whose workers from number `from` on have another pattern file than its router. */
  async function withOtherFile(workers: number, from: number): Promise<TestCluster> {
    const other = write('workers.json', JSON.stringify(layers({ '0': 8 })));
    const memberEnvironment = (role: string, index: number): NodeJS.ProcessEnv =>
      role === 'worker' && index >= from ? { WORKER_PATTERNS_FILE: other } : {};
    return startTestCluster({}, { workers, memberEnvironment });
  }

  test('that differ between router and workers refuse a session that needs them', async () => {
    const cluster = await withOtherFile(1, 0);
    try {
      const dense = await generate(cluster.client, { maxNewTokens: 1 }, idParts([1, 2, 3]));
      assert.equal(dense.ids.length, 1);
      await assert.rejects(
        generate(cluster.client, { ...MINFERENCE, maxNewTokens: 1 }, idParts([1, 2, 3])),
        { code: status.UNAVAILABLE, details: /^NO_WORKER: the pattern files .* differ/ },
      );
    } finally {
      await cluster.stop();
    }
  });

  test('that differ between two workers leave sessions to the one with the router’s', async () => {
    const cluster = await withOtherFile(2, 1);
    try {
      const { members } = await cluster.status();
      const digests = members.flatMap(({ role, patternsSha256 }) =>
        role === 'worker' ? [patternsSha256] : [],
      );
      assert.equal(new Set(digests).size, 2);
      const lanes = new Set<string>();
      for (let first = 10; first < 16; first += 1) {
        const { finished } = await generate(
          cluster.client,
          { ...MINFERENCE, maxNewTokens: 1 },
          idParts(prompt.slice(first, first + 700)),
        );
        lanes.add((finished.report?.workerIds ?? []).join());
      }
      assert.deepEqual([...lanes], ['worker-0']);
    } finally {
      await cluster.stop();
    }
  });

  test('that are malformed, or of another model, stop the start, saying what to change', async () => {
    const wrong = write('wrong.json', '[{"3": ["vertical_and_slash", -1, 100, 0]}]');
    await assert.rejects(startTestCluster({}, { patternsFile: wrong }), {
      code: 'MODEL_INVALID',
      message: /wrong\.json: layer 0, head 3, a: must be a whole number from 0/,
    });
    const foreign = write('foreign.json', '[{"0": ["stream_llm", 64, 512, 0]}]');
    await assert.rejects(startTestCluster({}, { patternsFile: foreign }), {
      code: 'MODEL_INVALID',
      message: /foreign\.json: has 1 layers, and the model has \d+; choose the file/,
    });
  });
});

/** A pattern file of the embedded model whose first layer has these tiles. */
function layers(tiles: Readonly<Record<string, number>>): unknown[] {
  return [{ tiles }, ...Array.from({ length: NEEDLE_LAYERS - 1 }, () => ({}))];
}
