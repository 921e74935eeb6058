import assert from '../support/assert.js';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster } from '../../services/cli/cluster/start-cluster.js';
import {
  startRedisChild,
  stopRedisChild,
  type RedisChild,
} from '../../services/cli/cluster/redis-child.js';
import { ServingError } from '../../services/domain/serving-error.js';
import { apiKeyLine } from '../../services/platform/config/api-keys-file.js';
import { MODEL, NEEDLE_MODEL } from '../support/cluster.js';

let folder: string;
let redis: RedisChild;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  redis = await startRedisChild(folder, process.env);
});
after(async () => {
  await stopRedisChild(redis);
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a cluster that must not start; checks that it leaves nothing. */
async function startFailure(
  modelDirectory: string,
  environment: NodeJS.ProcessEnv = {},
): Promise<Error> {
  const started = await Cluster.start({
    modelDirectory,
    workers: 1,
    routerListen: '127.0.0.1:0',
    storeBase: join(folder, 'store'),
    redisUrl: null,
    environment: { ...process.env, ...environment },
    readyWithinMs: 30_000,
    onLog: () => undefined,
  }).catch((error: unknown) => error as Error);
  if (!(started instanceof Cluster)) return started;
  await started.stop();
  throw new Error('the cluster started');
}

test('a missing model folder is one clear error', async () => {
  const error = await startFailure(join(folder, 'absent'));
  assert.ok(error instanceof ServingError);
  assert.equal(error.code, 'MODEL_INVALID');
  assert.match(error.message, /absent/);
});

for (const [what, damage] of [
  [
    'a truncated weight file',
    (model: string) => truncateSync(join(model, 'model-00002-of-00002.safetensors'), 1_000_000),
  ],
  [
    'a missing weight file',
    (model: string) => rmSync(join(model, 'model-00002-of-00002.safetensors')),
  ],
  ['a config that is no JSON', (model: string) => writeFileSync(join(model, 'config.json'), '{')],
  [
    'a shape that does not match',
    (model: string) => writeFileSync(join(model, 'config.json'), wrongShape()),
  ],
] as const) {
  test(`${what} is one clear error`, async () => {
    const model = join(folder, 'damaged');
    rmSync(model, { recursive: true, force: true });
    mkdirSync(model);
    cpSync(NEEDLE_MODEL, model, { recursive: true });
    damage(model);
    const error = await startFailure(model);
    assert.ok(error instanceof ServingError);
    assert.equal(error.code, 'MODEL_INVALID');
    assert.match(
      error.message,
      /the (worker|decode) could not start: .*(config\.json|safetensors)/,
    );
    assert.doesNotMatch(error.message, /\n/, 'one line');
  });
}

function wrongShape(): string {
  return JSON.stringify({
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    hidden_size: 256,
    intermediate_size: 1280,
    num_hidden_layers: 6,
    num_attention_heads: 8,
    num_key_value_heads: 2,
    head_dim: 64,
    vocab_size: 4096,
    rms_norm_eps: 1e-5,
    rope_theta: 1e8,
    max_position_embeddings: 1_048_576,
    tie_word_embeddings: true,
  });
}

test('without redis-server and REDIS_URL, the error names both', async () => {
  const error = await startFailure(NEEDLE_MODEL, { PATH: folder });
  assert.match(error.message, /apt-get install -y redis-server/);
  assert.match(error.message, /REDIS_URL/);
});

test('a Redis that does not answer is named', () => {
  const main = join(import.meta.dirname, '../../services/router/main.ts');
  const { status: code, stderr } = spawnSync(process.execPath, ['--import', 'tsx', main], {
    env: {
      ...process.env,
      REDIS_URL: `unix://${join(folder, 'absent.sock')}`,
      ROUTER_LISTEN: '127.0.0.1:0',
      ROUTER_MODELS: `${MODEL}=${NEEDLE_MODEL}`,
    },
    encoding: 'utf8',
    timeout: 60_000,
  });
  assert.equal(code, 1, stderr);
  assert.match(stderr, /absent\.sock/);
});

for (const role of ['router', 'worker', 'decode']) {
  test(`the ${role} refuses a non-loopback address without TLS`, () => {
    const keysFile = join(folder, 'api-keys');
    writeFileSync(keysFile, `${apiKeyLine('acme', 'secret')}\n`, { mode: 0o600 });
    const error = startFailureOn(role, '0.0.0.0:0', { ROUTER_API_KEYS_FILE: keysFile });
    assert.match(error, /LONGSHADOW_TLS_CERT/);
    assert.match(error, /loopback|TLS/);
  });
}

test('the router refuses a non-loopback address without API keys', () => {
  assert.match(startFailureOn('router', '0.0.0.0:0'), /set ROUTER_API_KEYS_FILE/);
});

/** The service alone, against the running cluster's Redis, with `listen` as its address. */
function startFailureOn(role: string, listen: string, environment: NodeJS.ProcessEnv = {}): string {
  const main = join(import.meta.dirname, `../../services/${role}/main.ts`);
  const prefix = role.toUpperCase();
  const { status: code, stderr } = spawnSync(process.execPath, ['--import', 'tsx', main], {
    env: {
      ...process.env,
      REDIS_URL: redis.url,
      [`${prefix}_LISTEN`]: listen,
      ROUTER_MODELS: `${MODEL}=${NEEDLE_MODEL}`,
      [`${prefix}_MODEL_DIR`]: NEEDLE_MODEL,
      [`${prefix}_STORE_DIR`]: join(folder, 'other-store'),
      ...environment,
    },
    encoding: 'utf8',
    timeout: 60_000,
  });
  assert.equal(code, 1, stderr);
  return stderr;
}
