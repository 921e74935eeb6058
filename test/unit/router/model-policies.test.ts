import assert from '../../support/assert.js';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseSettings } from '../../../services/platform/config/settings.js';
import { ROUTER_SETTINGS } from '../../../services/router/config.js';
import { loadModelPolicies } from '../../../services/router/model-policies.js';
import { Models } from '../../../services/router/models.js';
import { NEEDLE_MODEL } from '../../support/cluster.js';

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-policies-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** One layer of some model. */
const FOREIGN = '[{"0": ["stream_llm", 64, 512, 0]}]';

async function load(environment: Readonly<Record<string, string>>) {
  const settings = parseSettings(ROUTER_SETTINGS, {
    ...{ REDIS_URL: 'redis://127.0.0.1:6379/0', ROUTER_MODELS: `needle=${NEEDLE_MODEL}` },
    ...environment,
  });
  return loadModelPolicies(settings, await Models.load(settings.models));
}

test('a model is dense by default, and sparse as the settings say', async () => {
  const plain = (await load({}))('needle');
  assert.deepEqual(
    [plain.prefillPolicy, plain.tilesPerBlock, plain.denseBelowTokens, plain.guardInterval],
    ['dense', 128, 8_192, 8],
  );
  assert.match(plain.patternsSha256, /^[0-9a-f]{64}$/);
  const set = (
    await load({
      ROUTER_PREFILL_POLICIES: 'needle=minference',
      ROUTER_TILES_PER_BLOCK: '32',
      ROUTER_DENSE_BELOW_TOKENS: '0',
      ROUTER_SPARSE_GUARD_INTERVAL: '1',
    })
  )('needle');
  assert.deepEqual(
    [set.prefillPolicy, set.tilesPerBlock, set.denseBelowTokens, set.guardInterval],
    ['minference', 32, 0, 1],
  );
});

test("a pattern file changes the digest, and must fit the model's shape", async () => {
  const path = join(folder, 'patterns.json');
  const layers = Array.from({ length: 64 }, () => '{}');
  const text = (count: number) => `[{"tiles": {"0": 8}}, ${layers.slice(1, count).join(', ')}]`;
  const file = { ROUTER_PATTERNS_FILES: `needle=${path}` };
  writeFileSync(path, FOREIGN);
  const problem = await load(file).then(
    () => '',
    (error: unknown) => String(error),
  );
  const wanted = Number(/the model has (\d+); choose the file/.exec(problem)?.[1]);
  assert.ok(wanted > 1, problem);
  writeFileSync(path, text(wanted));
  const plain = (await load({}))('needle');
  assert.notEqual((await load(file))('needle').patternsSha256, plain.patternsSha256);
});

const WRONG: readonly (readonly [string, Readonly<Record<string, string>>, RegExp])[] = [
  ['a policy that is not built', { ROUTER_PREFILL_POLICIES: 'needle=window' }, /dense, minf/],
  ['a policy of no model', { ROUTER_PREFILL_POLICIES: 'minference' }, /want name=policy/],
  ['a model that is not served', { ROUTER_PREFILL_POLICIES: 'other=dense' }, /no model other/],
  ['patterns of such a model', { ROUTER_PATTERNS_FILES: 'other=p.json' }, /no model other/],
  ['a pattern file that is absent', { ROUTER_PATTERNS_FILES: 'needle=/absent.json' }, /ENOENT/],
  ['no tile', { ROUTER_TILES_PER_BLOCK: '0' }, /from 1 to 65536/],
  ['too many tiles', { ROUTER_TILES_PER_BLOCK: '65537' }, /from 1 to 65536/],
  ['a negative threshold', { ROUTER_DENSE_BELOW_TOKENS: '-1' }, /from 0 to/],
];
for (const [what, environment, problem] of WRONG) {
  test(`a router does not start with ${what}`, async () => {
    await assert.rejects(load(environment), problem);
  });
}
