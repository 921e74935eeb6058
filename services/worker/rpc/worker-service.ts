import type { ReuseSegmentsRequest__Output } from '../../../proto/gen/longshadow/worker/v1/ReuseSegmentsRequest.js';
import type { WorkerServiceHandlers } from '../../../proto/gen/longshadow/worker/v1/WorkerService.js';
import { ServingError } from '../../domain/serving-error.js';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';
import { toServingError } from '../../engine-host/native-error-code.js';
import type { HostStatus } from '../../engine-host/host-status.js';
import type { AdapterOptions } from '../../platform/rpc/adapter-options.js';
import { serverStream } from '../../platform/rpc/server-stream.js';
import { unary } from '../../platform/rpc/unary.js';
import type { ReuseRequest } from '../prefill/segment-reuse.js';
import type { StoredSegment } from '../values/link-segments.js';

const PIECE_BYTES = 2 ** 20;
/** Segments begin at pages. */
const PAGE_TOKENS = 512;

/** What the handlers delegate to. */
export interface WorkerOperations {
  readonly handOff: (sessionId: string, epoch: number) => Promise<Uint8Array>;
  readonly reuse: (request: ReuseRequest) => Promise<readonly StoredSegment[]>;
  readonly release: (sessionId: string, epoch: number) => Promise<number>;
  readonly status: () => HostStatus & {
    readonly sessions: number;
    readonly prefillChunks: number;
    readonly prefillTokens: number;
  };
}

/** The handlers of longshadow.worker.v1.WorkerService. */
export function workerService(
  operations: WorkerOperations,
  options: AdapterOptions,
): WorkerServiceHandlers {
  const getHandOff = serverStream(async function* (request: SessionEpoch) {
    const handOff = await guarded(() => operations.handOff(...sessionEpoch(request)));
    for (let begin = 0; begin < handOff.length; begin += PIECE_BYTES) {
      yield { piece: Buffer.from(handOff.subarray(begin, begin + PIECE_BYTES)) };
    }
  }, options);
  const reuseSegments = unary(async (request: ReuseSegmentsRequest__Output) => {
    const segments = await guarded(() => operations.reuse(reuseRequest(request)));
    return { segments: segments.map((segment) => ({ ...segment })) };
  }, options);
  const releaseSession = unary(async (request: SessionEpoch) => {
    const freedBytes = await guarded(() => operations.release(...sessionEpoch(request)));
    return { freedBytes };
  }, options);
  const getStatus = unary(() => Promise.resolve(operations.status()), options);
  return {
    GetHandOff: getHandOff,
    ReuseSegments: reuseSegments,
    ReleaseSession: releaseSession,
    GetStatus: getStatus,
  };
}

interface SessionEpoch {
  readonly sessionId: string;
  readonly epoch: number;
}

function sessionEpoch({ sessionId, epoch }: SessionEpoch): [string, number] {
  if (!SESSION_ID_PATTERN.test(sessionId)) {
    throw new ServingError('BAD_REQUEST', 'session_id must be 32 lower-case hex digits');
  }
  if (epoch < 1) throw new ServingError('BAD_REQUEST', 'epoch must be at least 1');
  return [sessionId, epoch];
}

function reuseRequest(request: ReuseSegmentsRequest__Output): ReuseRequest {
  const [sessionId, epoch] = sessionEpoch(request);
  const [sourceId, sourceEpoch] = sessionEpoch({
    sessionId: request.sourceSessionId,
    epoch: request.sourceEpoch,
  });
  if (sourceId === sessionId && sourceEpoch >= epoch) {
    throw new ServingError('BAD_REQUEST', "source_epoch must be an earlier plan's");
  }
  const [beginToken, endToken] = [Number(request.beginToken), Number(request.endToken)];
  if (!(beginToken < endToken && Number.isSafeInteger(endToken))) {
    throw new ServingError('BAD_REQUEST', 'begin_token must be less than end_token');
  }
  if (beginToken % PAGE_TOKENS !== 0) {
    throw new ServingError('BAD_REQUEST', 'begin_token must be a multiple of 512');
  }
  const taker = { sessionId, epoch };
  return { taker, source: { sessionId: sourceId, epoch: sourceEpoch }, beginToken, endToken };
}

async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw toServingError(error);
  }
}
