import assert from '../../../support/assert.js';
import { describe, test } from 'node:test';
import { ServingError } from '../../../../services/domain/serving-error.js';
import {
  checkHeader,
  type CheckedHeader,
} from '../../../../services/router/admission/check-header.js';
import type { GenerationHeader } from '../../../../services/router/admission/generation-header.js';
import type { ServedModel } from '../../../../services/router/admission/served-model.js';

const MODEL: ServedModel = {
  name: 'needle',
  modelFingerprint: 'a'.repeat(32),
  dtype: 'bf16',
  cutRule: 'cpu',
  vocabSize: 4_096,
  maxPositions: 10_000,
  kvBytesPerToken: 1_000,
  layerBegin: 0,
  layerEnd: 6,
};

const PLAIN: GenerationHeader = {
  model: 'needle',
  temperature: 0,
  topK: 0,
  topP: null,
  seed: null,
  maxNewTokens: 0,
  stopTexts: [],
  ignoreEos: false,
  prefillPolicy: null,
  cachePolicy: null,
  sparse: null,
  deadlineMs: 0,
  tenant: '',
  priority: 'normal',
  maxPromptTokens: 0,
  onDisconnect: 'cancel',
  resumeGraceMs: null,
  keepSessionMs: 0,
  keepExactKeys: false,
  promptLogprobs: [],
  forcedTokenIds: [],
  continueSessionId: null,
};

function check(
  change: Partial<GenerationHeader>,
  callDeadlineUnixMs: number | null = null,
): CheckedHeader {
  return checkHeader(
    { ...PLAIN, ...change },
    {
      model: MODEL,
      limits: { defaultMaxPromptTokens: 8_000, defaultMaxNewTokens: 500, maxKeepSessionMs: 1_000 },
      nowUnixMs: 1_000_000,
      callDeadlineUnixMs,
      randomSeed: '7',
    },
  );
}

describe('a header', () => {
  test('without wishes gets every default', () => {
    assert.deepEqual(check({}), {
      generation: {
        sampling: { temperature: 0, topK: 0, topP: 1, seed: '7' },
        stopping: { maxNewTokens: 500, stopTexts: [], ignoreEos: false },
        forcedTokenIds: [],
        promptLogprobs: [],
      },
      maxPromptTokens: 8_000,
      tenant: '',
      priority: 'normal',
      deadlineUnixMs: null,
      onDisconnect: 'cancel',
      resumeGraceMs: 60_000,
      keepSessionMs: 0,
      keepExactKeys: false,
    });
  });

  test('leaves room for the answer in the model’s positions', () => {
    assert.equal(check({ maxNewTokens: 4_000 }).maxPromptTokens, 6_000);
    assert.equal(check({ maxNewTokens: 4_000, maxPromptTokens: 6_000 }).maxPromptTokens, 6_000);
  });

  test('keeps the priority that it asks for', () => {
    assert.equal(check({ priority: 'high' }).priority, 'high');
  });

  test('caps how long a session is kept', () => {
    assert.equal(check({ keepSessionMs: 900 }).keepSessionMs, 900);
    assert.equal(check({ keepSessionMs: 5_000 }).keepSessionMs, 1_000);
  });

  test('caps how long a session runs on without its client', () => {
    assert.equal(check({ resumeGraceMs: 3_600_000 }).resumeGraceMs, 3_600_000);
    assert.equal(check({ resumeGraceMs: 2 ** 60 }).resumeGraceMs, 3_600_000);
  });

  test('caps the deadline of the call at 7 days', () => {
    assert.equal(check({}, 2 ** 52).deadlineUnixMs, 1_000_000 + 604_800_000);
  });

  test('takes the earlier of its deadline and the call’s', () => {
    assert.equal(check({ deadlineMs: 500 }).deadlineUnixMs, 1_000_500);
    assert.equal(check({ deadlineMs: 500 }, 1_000_400).deadlineUnixMs, 1_000_400);
    assert.equal(check({ deadlineMs: 500 }, 1_000_600).deadlineUnixMs, 1_000_500);
    assert.equal(check({}, 1_000_400).deadlineUnixMs, 1_000_400);
  });

  test('has its log-probability ranges sorted and joined', () => {
    const promptLogprobs = [
      { beginToken: 10, endToken: 20 },
      { beginToken: 0, endToken: 5 },
      { beginToken: 5, endToken: 8 },
      { beginToken: 15, endToken: 18 },
    ];
    assert.deepEqual(check({ promptLogprobs }).generation.promptLogprobs, [
      { beginToken: 0, endToken: 8 },
      { beginToken: 10, endToken: 20 },
    ]);
  });

  const accepted: Partial<GenerationHeader>[] = [
    { temperature: 100 },
    { topP: 1 },
    { seed: '18446744073709551615' },
    { seed: '0' },
    { stopTexts: Array.from({ length: 16 }, () => 'x'.repeat(256)) },
    { tenant: 'é'.repeat(64) },
    { forcedTokenIds: [0, 4_095] },
    { promptLogprobs: [{ beginToken: 0, endToken: 10_000 }] },
  ];
  for (const change of accepted) {
    test(`may have ${JSON.stringify(change).slice(0, 60)}`, () => {
      check(change);
    });
  }

  const refused: { change: Partial<GenerationHeader>; code: string; field: string }[] = [
    { change: { temperature: -0.1 }, code: 'INVALID_SAMPLING', field: 'sampling.temperature' },
    { change: { temperature: 100.5 }, code: 'INVALID_SAMPLING', field: 'sampling.temperature' },
    { change: { temperature: NaN }, code: 'INVALID_SAMPLING', field: 'sampling.temperature' },
    { change: { temperature: Infinity }, code: 'INVALID_SAMPLING', field: 'sampling.temperature' },
    { change: { topK: -1 }, code: 'INVALID_SAMPLING', field: 'sampling.top_k' },
    { change: { topP: 0 }, code: 'INVALID_SAMPLING', field: 'sampling.top_p' },
    { change: { topP: 1.01 }, code: 'INVALID_SAMPLING', field: 'sampling.top_p' },
    { change: { topP: NaN }, code: 'INVALID_SAMPLING', field: 'sampling.top_p' },
    { change: { deadlineMs: -1 }, code: 'INVALID_DEADLINE', field: 'deadline_ms' },
    { change: { deadlineMs: 604_800_001 }, code: 'INVALID_DEADLINE', field: 'deadline_ms' },
    { change: { deadlineMs: 2 ** 60 }, code: 'INVALID_DEADLINE', field: 'deadline_ms' },
    { change: { maxNewTokens: 10_000 }, code: 'BAD_REQUEST', field: 'max_new_tokens' },
    { change: { maxPromptTokens: 9_501 }, code: 'PROMPT_TOO_LONG', field: 'max_prompt_tokens' },
    {
      change: { stopTexts: Array.from({ length: 17 }, () => 'x') },
      code: 'BAD_REQUEST',
      field: 'stop',
    },
    { change: { stopTexts: ['ok', ''] }, code: 'BAD_REQUEST', field: 'stop[1]' },
    { change: { stopTexts: ['é'.repeat(129)] }, code: 'BAD_REQUEST', field: 'stop[0]' },
    { change: { tenant: 'é'.repeat(65) }, code: 'BAD_REQUEST', field: 'tenant' },
    {
      change: { forcedTokenIds: [1, 4_096] },
      code: 'TOKEN_ID_OUT_OF_RANGE',
      field: 'forced_tokens[1]',
    },
    {
      change: { forcedTokenIds: [1, 2, 3], maxNewTokens: 2 },
      code: 'BAD_REQUEST',
      field: 'forced_tokens',
    },
    {
      change: { promptLogprobs: [{ beginToken: 5, endToken: 5 }] },
      code: 'BAD_REQUEST',
      field: 'prompt_logprobs[0]',
    },
    {
      change: { promptLogprobs: [{ beginToken: 5, endToken: 10_001 }] },
      code: 'BAD_REQUEST',
      field: 'prompt_logprobs[0]',
    },
    {
      change: { continueSessionId: '../../etc' },
      code: 'BAD_REQUEST',
      field: 'continue_session_id',
    },
  ];
  for (const { change, code, field } of refused) {
    test(`is refused with ${code} for ${JSON.stringify(change).slice(0, 60)}`, () => {
      assert.throws(
        () => check(change),
        (error) =>
          error instanceof ServingError &&
          error.code === code &&
          error.message.startsWith(field) &&
          error.details.fieldViolations?.[0]?.field === field,
      );
    });
  }
});
