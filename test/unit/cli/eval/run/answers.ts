import type { AnswerEvent } from '../../../../../services/cli/rpc/answer-events.js';

/** The last event of an answer. */
export function finishedEvent(text: string): AnswerEvent {
  return {
    ...{ sessionId: 's', sequence: 2, type: 'finished', text },
    report: {
      ...{ finishReason: 'length', promptTokens: 1, cachedTokens: 0, completionTokens: 1 },
      ...{ timeToFirstTokenMs: 1, prefillMs: 1, decodeMs: 1, segmentBytes: 0, privateBytes: 0 },
      ...{ prefillPolicy: 'dense', cachePolicy: 'full', workerIds: [], decodeId: 'd' },
      ...{ promptReran: false, keptUntilUnixMs: null, sparsePrefill: null },
    },
  };
}
