import type { AnswerEvent, AnswerReport } from '../rpc/answer-events.js';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatShare,
  tokensPerSecond,
} from './format.js';
import { PrefillProgress } from './prefill-progress.js';

/** Progress and figures to stderr, the answer to stdout. */
export async function showAnswer(events: AsyncIterable<AnswerEvent>): Promise<void> {
  const progress = new PrefillProgress(process.stderr, () => performance.now());
  try {
    for await (const event of events) {
      switch (event.type) {
        case 'accepted':
          break;
        case 'queued':
          process.stderr.write(
            `queued behind ${formatCount(event.jobsAhead)} jobs on ${event.workerId}\n`,
          );
          break;
        case 'progress':
          progress.update(
            event.processedTokens,
            event.totalTokens,
            event.cachedTokens,
            event.etaMs,
          );
          break;
        case 'interrupted':
          progress.restart();
          process.stderr.write(`${describeInterruption(event.code)}\n`);
          break;
        case 'token':
          progress.stop();
          process.stdout.write(event.text);
          break;
        case 'finished':
          process.stdout.write(`${event.text}\n`);
          process.stderr.write(`${describeReport(event.sessionId, event.report)}\n`);
          break;
        case 'error':
          break;
      }
    }
  } finally {
    progress.stop();
  }
}

/** One line for what the cluster makes good by itself. */
export function describeInterruption(code: string): string {
  return `${LOSSES[code] ?? `interrupted (${code})`}; going on elsewhere`;
}

const LOSSES: Readonly<Record<string, string>> = {
  WORKER_LOST: 'worker lost',
  DECODE_LOST: 'decode lost',
  SHUTTING_DOWN: 'a process of the session shuts down',
  DATA_LOSS: 'damaged bytes refused',
  JOB_CORRUPT: 'damaged job refused',
};

/** What sparse prefill saved, and what that cost; nothing where no chunk was sparse. */
function describeSparse(sparse: AnswerReport['sparsePrefill']): string[] {
  if (sparse === null || sparse.sparseTokens === 0) return [];
  const densities = sparse.densities
    .filter(({ pattern }) => pattern !== 'dense')
    .map(({ pattern, density }) => `${pattern} ${formatShare(density)}`);
  return [
    `${formatCount(sparse.sparseTokens)} tokens sparse, ` +
      `${formatShare(sparse.density)} of dense attention (${densities.join(', ')})`,
    ...(sparse.guardBlocks > 0 ? [`attention error ${formatShare(sparse.guardErrorMean)}`] : []),
  ];
}

/** The figures of a turn in one or two lines. */
export function describeReport(sessionId: string, report: AnswerReport): string {
  const prefilled = report.promptTokens - report.cachedTokens;
  const figures = [
    `${formatCount(report.promptTokens)} prompt tokens` +
      (report.cachedTokens > 0 ? ` (${formatCount(report.cachedTokens)} cached)` : ''),
    `prefill ${formatCount(tokensPerSecond(prefilled, report.prefillMs))} tokens/s`,
    `first token after ${formatDuration(report.timeToFirstTokenMs)}`,
    `${formatCount(report.completionTokens)} new tokens` +
      (report.completionTokens > 1
        ? ` at ${tokensPerSecond(report.completionTokens - 1, report.decodeMs).toFixed(1)} tokens/s`
        : ''),
    `KV ${formatBytes(report.segmentBytes + report.privateBytes)}`,
    `${report.prefillPolicy} prefill, ${report.cachePolicy} cache`,
    ...describeSparse(report.sparsePrefill),
    `ended by ${report.finishReason}`,
  ];
  const kept =
    report.keptUntilUnixMs === null
      ? ''
      : `\nkept until ${new Date(report.keptUntilUnixMs).toISOString()}: --continue ${sessionId}`;
  return figures.join(', ') + kept;
}
