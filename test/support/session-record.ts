import type { SessionRecord } from '../../services/domain/session-record.js';

/** A valid record in its first state, for tests to vary. */
export function newRecord(sessionId: string): SessionRecord {
  return {
    schemaVersion: 1,
    sessionId,
    revision: 1,
    state: 'uploading',
    epoch: 1,
    lane: ['worker-1'],
    decodeId: null,
    turn: 0,
    model: 'needle',
    modelFingerprint: 'a'.repeat(32),
    policy: { prefillPolicy: 'dense', cachePolicy: 'full', dtype: 'fp32', cutRule: 'cpu' },
    fingerprint: 'b'.repeat(32),
    generation: {
      sampling: { temperature: 0, topK: 0, topP: 1, seed: '18446744073709551615' },
      stopping: { maxNewTokens: 16, stopTexts: [], ignoreEos: false },
      forcedTokenIds: [],
      promptLogprobs: [{ beginToken: 1, endToken: 4 }],
    },
    receivedTokens: 0,
    uploadClosed: false,
    nextToken: 0,
    segments: [{ beginToken: 0, endToken: 512, stage: 0, bytes: 1024 }],
    maxPromptTokens: 1_000_000,
    reservation: { storeId: 'store', bytes: 4096, tokens: 1_000_016 },
    tenant: '',
    traceparent: null,
    deadlineUnixMs: null,
    onDisconnect: 'cancel',
    resumeGraceMs: 60_000,
    keepSessionMs: 0,
    keepExactKeys: false,
    keepUntilUnixMs: null,
    createdUnixMs: 1_764_000_000_000,
  };
}
