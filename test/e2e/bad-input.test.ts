import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { status, type ServiceError } from '@grpc/grpc-js';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateRequest } from '../../proto/gen/longshadow/router/v1/GenerateRequest.js';
import { Cluster } from '../../services/cli/cluster/start-cluster.js';
import { unaryCall } from '../../services/platform/rpc/client.js';
import { ServingError } from '../../services/domain/serving-error.js';
import {
  heldBy,
  MODEL,
  NEEDLE_MODEL,
  startTestCluster,
  type TestCluster,
} from '../support/cluster.js';
import { exchange, generate, idParts } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';
import { poll } from '../support/poll.js';

let cluster: TestCluster;
let baseline: string;
let folder: string;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  cluster = await startTestCluster({ WORKER_STORE_CAPACITY_BYTES: String(2 ** 30) });
  baseline = JSON.stringify(heldBy((await cluster.status()).members));
});
after(async () => {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A header and parts, or whole requests, and what the call must end with. */
interface BadCall {
  readonly what: string;
  readonly header?: GenerateHeader;
  readonly requests?: readonly GenerateRequest[];
  readonly code: status;
  /** Code of ours, and what must be named. */
  readonly details: RegExp;
}

const TEXT: GenerateRequest = { part: { text: Buffer.from('Call me Ishmael. ') } };
const header = (more: GenerateHeader): GenerateRequest => ({ header: { model: MODEL, ...more } });
const sampling = (more: GenerateHeader['sampling']): GenerateHeader => ({ sampling: more ?? null });

const BAD_CALLS: readonly BadCall[] = [
  {
    what: 'an unknown model',
    header: { model: 'nobody' },
    code: status.NOT_FOUND,
    details: /^UNKNOWN_MODEL: .*nobody.*needle/s,
  },
  {
    what: 'no part at all',
    requests: [header({})],
    code: status.INVALID_ARGUMENT,
    details: /^EMPTY_PROMPT: /,
  },
  {
    what: 'an empty text',
    requests: [header({}), { part: { text: Buffer.alloc(0) } }],
    code: status.INVALID_ARGUMENT,
    details: /^EMPTY_PROMPT: /,
  },
  {
    what: 'a part that passes max_prompt_tokens',
    requests: [
      header({ maxPromptTokens: 100 }),
      { part: { tokenIds: { ids: Array<number>(101).fill(5) } } },
    ],
    code: status.INVALID_ARGUMENT,
    details: /^PROMPT_TOO_LONG: .*max_prompt_tokens \(100\)/s,
  },
  {
    what: "max_prompt_tokens above the model's positions",
    header: { maxPromptTokens: 2 ** 21 },
    code: status.INVALID_ARGUMENT,
    details: /^PROMPT_TOO_LONG: .*1,?048,?576/s,
  },
  {
    what: 'text that is not UTF-8',
    requests: [header({}), { part: { text: Buffer.from([0x61, 0xff, 0x62]) } }],
    code: status.INVALID_ARGUMENT,
    details: /^INVALID_UTF8: /,
  },
  {
    what: 'text that ends inside a character',
    requests: [header({}), { part: { text: Buffer.from([0x61, 0xc3]) } }],
    code: status.INVALID_ARGUMENT,
    details: /^INVALID_UTF8: /,
  },
  {
    what: 'a token id outside the vocabulary',
    requests: [header({}), { part: { tokenIds: { ids: [1, 4_096] } } }],
    code: status.INVALID_ARGUMENT,
    details: /^TOKEN_ID_OUT_OF_RANGE: .*4,?096/s,
  },
  {
    what: 'a negative temperature',
    header: sampling({ temperature: -1 }),
    code: status.INVALID_ARGUMENT,
    details: /^INVALID_SAMPLING: .*temperature/s,
  },
  {
    what: 'a temperature that is not a number',
    header: sampling({ temperature: Number.NaN }),
    code: status.INVALID_ARGUMENT,
    details: /^INVALID_SAMPLING: .*temperature/s,
  },
  {
    what: 'a negative top_k',
    header: sampling({ topK: -2 }),
    code: status.INVALID_ARGUMENT,
    details: /^INVALID_SAMPLING: .*top_k/s,
  },
  {
    what: 'top_p of 0',
    header: sampling({ topP: 0 }),
    code: status.INVALID_ARGUMENT,
    details: /^INVALID_SAMPLING: .*top_p/s,
  },
  {
    what: 'top_p above 1',
    header: sampling({ topP: 1.5 }),
    code: status.INVALID_ARGUMENT,
    details: /^INVALID_SAMPLING: .*top_p/s,
  },
  {
    what: 'seventeen stop texts',
    header: { stop: Array.from({ length: 17 }, (_, index) => `stop${index}`) },
    code: status.INVALID_ARGUMENT,
    details: /stop/,
  },
  {
    what: 'a negative deadline',
    header: { deadlineMs: -5 },
    code: status.INVALID_ARGUMENT,
    details: /^INVALID_DEADLINE: .*deadline_ms/s,
  },
  {
    what: 'the minference policy',
    header: { prefillPolicy: 'PREFILL_POLICY_MINFERENCE' },
    code: status.UNIMPLEMENTED,
    details: /^POLICY_NOT_AVAILABLE: .*minference.*dense/s,
  },
  {
    what: 'the shadowkv cache',
    header: { cachePolicy: 'CACHE_POLICY_SHADOWKV' },
    code: status.UNIMPLEMENTED,
    details: /^POLICY_NOT_AVAILABLE: .*shadowkv.*full/s,
  },
  {
    what: 'a prompt_logprobs range that is empty',
    header: { promptLogprobs: [{ beginToken: 5, endToken: 5 }] },
    code: status.INVALID_ARGUMENT,
    details: /prompt_logprobs/,
  },
  {
    what: 'a forced token outside the vocabulary',
    header: { forcedTokens: [9_999] },
    code: status.INVALID_ARGUMENT,
    details: /^TOKEN_ID_OUT_OF_RANGE: .*forced_tokens/s,
  },
  {
    what: 'a session that does not exist',
    header: { continueSessionId: '0'.repeat(32) },
    code: status.NOT_FOUND,
    details: /^SESSION_NOT_FOUND: /,
  },
  {
    what: 'a session id that is no id',
    header: { continueSessionId: '../../etc/passwd' },
    code: status.INVALID_ARGUMENT,
    details: /continue_session_id/,
  },
  {
    what: 'a part before the header',
    requests: [TEXT],
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: .*header/s,
  },
  {
    what: 'two headers',
    requests: [header({}), header({})],
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: .*header/s,
  },
  {
    what: 'an empty message',
    requests: [header({}), {}],
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: /,
  },
  {
    what: 'a chat message after raw text',
    requests: [
      header({}),
      TEXT,
      { part: { message: { role: 'user', content: Buffer.from('a') } } },
    ],
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: /,
  },
  {
    what: 'a message over the limit',
    requests: [header({}), { part: { text: Buffer.alloc(64 * 2 ** 20, 'a') } }],
    code: status.RESOURCE_EXHAUSTED,
    details: /larger|limit|max/i,
  },
  {
    what: 'more memory than the cluster has',
    header: { maxPromptTokens: 500_000 },
    code: status.RESOURCE_EXHAUSTED,
    details: /^(RESERVATION_EXCEEDED|VALUE_STORE_FULL): /,
  },
];

async function failureOf(requests: Iterable<GenerateRequest>): Promise<ServiceError> {
  try {
    await exchange(cluster.client, requests);
  } catch (error) {
    return error as ServiceError;
  }
  throw new Error('the call succeeded');
}

for (const { what, requests, header: more, code, details } of BAD_CALLS) {
  test(`${what} is refused`, async () => {
    const error = await failureOf(requests ?? [header(more ?? {}), TEXT]);
    assert.equal(error.code, code, error.details);
    assert.match(error.details, details);
  });
}

test('GenerateText and CountTokens refuse as Generate does', async () => {
  const parts = [{ text: Buffer.from([0xff]) }];
  const options = { timeoutMs: 10_000 };
  await assert.rejects(
    unaryCall(cluster.client, 'generateText', { header: { model: MODEL }, parts }, options),
    { code: 'INVALID_UTF8' },
  );
  await assert.rejects(unaryCall(cluster.client, 'countTokens', { model: 'x', parts }, options), {
    code: 'UNKNOWN_MODEL',
  });
});

test('a refusal tells programs which field was wrong', async () => {
  const request = { header: { model: MODEL, ...sampling({ topP: 3 }) }, parts: [TEXT.part ?? {}] };
  await assert.rejects(
    unaryCall(cluster.client, 'generateText', request, { timeoutMs: 10_000 }),
    (error) => {
      assert.ok(error instanceof ServingError);
      assert.match(error.details.fieldViolations?.[0]?.field ?? '', /top_p/);
      return true;
    },
  );
});

test('after every refusal nothing is held and the cluster answers', async () => {
  await poll(
    () => cluster.status(),
    ({ sessions, members }) =>
      sessions.length === 0 && JSON.stringify(heldBy(members)) === baseline,
    2_000,
  );
  const { prompt, answer } = needleSample(0);
  const result = await generate(cluster.client, { maxNewTokens: 20 }, idParts(prompt));
  assert.deepEqual(result.ids.slice(0, answer.length), answer);
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
    (model: string) => truncateSync(join(model, 'model-00002-of-00003.safetensors'), 1_000_000),
  ],
  [
    'a missing weight file',
    (model: string) => rmSync(join(model, 'model-00002-of-00003.safetensors')),
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
    const error = startFailureOn(role, '0.0.0.0:0');
    assert.match(error, /LONGSHADOW_TLS_CERT/);
    assert.match(error, /loopback|TLS/);
  });
}

/** The service alone, against the running cluster's Redis, with `listen` as its address. */
function startFailureOn(role: string, listen: string): string {
  const main = join(import.meta.dirname, `../../services/${role}/main.ts`);
  const prefix = role.toUpperCase();
  const { status: code, stderr } = spawnSync(process.execPath, ['--import', 'tsx', main], {
    env: {
      ...process.env,
      REDIS_URL: cluster.cluster.redisUrl,
      [`${prefix}_LISTEN`]: listen,
      ROUTER_MODELS: `${MODEL}=${NEEDLE_MODEL}`,
      [`${prefix}_MODEL_DIR`]: NEEDLE_MODEL,
      [`${prefix}_STORE_DIR`]: join(folder, 'other-store'),
    },
    encoding: 'utf8',
    timeout: 60_000,
  });
  assert.equal(code, 1, stderr);
  return stderr;
}
