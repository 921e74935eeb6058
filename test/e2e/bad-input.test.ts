import assert from '../support/assert.js';
import { after, before, test } from 'node:test';
import { status, type ServiceError } from '@grpc/grpc-js';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateRequest } from '../../proto/gen/longshadow/router/v1/GenerateRequest.js';
import { makeClient, unaryCall } from '../../services/platform/rpc/client.js';
import { ServingError } from '../../services/domain/serving-error.js';
import { heldBy, MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { exchange, generate, idParts } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';
import { poll } from '../support/poll.js';

let cluster: TestCluster;
let baseline: string;
before(async () => {
  cluster = await startTestCluster({ WORKER_STORE_CAPACITY_BYTES: String(2 ** 30) });
  baseline = JSON.stringify(heldBy((await cluster.status()).members));
});
after(async () => {
  await cluster.stop();
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
    what: 'no key tile for sparse prefill',
    header: { prefillPolicy: 'PREFILL_POLICY_MINFERENCE', sparsePrefill: { tilesPerBlock: 0 } },
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: sparse_prefill\.tiles_per_block must be from 1 to 65536, got 0/,
  },
  {
    what: 'too many key tiles for sparse prefill',
    header: {
      prefillPolicy: 'PREFILL_POLICY_MINFERENCE',
      sparsePrefill: { tilesPerBlock: 65_537 },
    },
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: sparse_prefill\.tiles_per_block must be from 1 to 65536, got 65537/,
  },
  {
    what: 'a gamma of 0',
    header: { prefillPolicy: 'PREFILL_POLICY_MINFERENCE', sparsePrefill: { gamma: 0 } },
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: sparse_prefill\.gamma must be above 0 and at most 1/,
  },
  {
    what: 'a gamma above 1',
    header: { prefillPolicy: 'PREFILL_POLICY_MINFERENCE', sparsePrefill: { gamma: 1.5 } },
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: sparse_prefill\.gamma must be above 0 and at most 1, got 1\.5/,
  },
  {
    what: 'a gamma that minference has no use for',
    header: { prefillPolicy: 'PREFILL_POLICY_MINFERENCE', sparsePrefill: { gamma: 0.9 } },
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: sparse_prefill\.gamma is for flexprefill, .*minference: leave it out/,
  },
  {
    what: 'thresholds of sparse prefill for a dense session',
    header: { sparsePrefill: { denseBelowTokens: 512 } },
    code: status.INVALID_ARGUMENT,
    details: /^BAD_REQUEST: sparse_prefill .*the prefill policy is dense: set prefill_policy/,
  },
  {
    what: 'the shadowkv cache',
    header: { cachePolicy: 'CACHE_POLICY_SHADOWKV' },
    code: status.UNIMPLEMENTED,
    details: /^POLICY_NOT_AVAILABLE: .*shadowkv.*full/s,
  },
  {
    what: 'the locret cache',
    header: { cachePolicy: 'CACHE_POLICY_LOCRET' },
    code: status.UNIMPLEMENTED,
    details: /^POLICY_NOT_AVAILABLE: .*locret.*full/s,
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
    what: 'more memory than the cluster has',
    header: { maxPromptTokens: 500_000 },
    code: status.RESOURCE_EXHAUSTED,
    details: /^VALUE_STORE_FULL: .*max_prompt_tokens/s,
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

test('a message over the limit is refused by the router, whatever its sender allows', async () => {
  const most = { maxSendBytes: 2 ** 30, maxReceiveBytes: 2 ** 30 };
  const careless = makeClient('router', cluster.address, null, most);
  const part = { text: Buffer.alloc(64 * 2 ** 20, 'a') };
  const call = exchange(careless, [header({}), { part }]);
  await assert.rejects(call, {
    code: status.RESOURCE_EXHAUSTED,
    details: /^MESSAGE_TOO_LARGE: .*larger than max.*: send it as several smaller ones$/,
  });
  careless.close();
});

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
