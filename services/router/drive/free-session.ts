import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { DriveDeps } from './drive-deps.js';

/** Tries of a release that gets no answer, and the pause between them. */
const TRIES = 3;
const RETRY_MS = 200;

/**
 * Frees a session's memory at its worker and decode, at once and in parallel. Settles when both have
 * answered; a member that is gone has nothing to free. Idempotent.
 */
export async function freeSession(
  session: {
    readonly sessionId: string;
    readonly epoch: number;
    readonly worker: FleetMember;
    readonly decode: FleetMember;
  },
  deps: DriveDeps,
): Promise<void> {
  const { sessionId, epoch, worker, decode } = session;
  await Promise.all([
    release(worker, deps, async () =>
      deps.workers.releaseSession(worker.address, sessionId, epoch),
    ),
    release(decode, deps, async () => deps.decodes.releaseSession(decode.address, sessionId)),
  ]);
}

async function release(
  member: FleetMember,
  deps: DriveDeps,
  call: () => Promise<void>,
): Promise<void> {
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    try {
      await call();
      return;
    } catch (error) {
      const { memberId } = member;
      deps.log.warn({ err: error, memberId, attempt }, 'release not answered');
      if (isGone(error) && !(await deps.fleet.isAlive(memberId).catch(() => true))) return;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function isGone(error: unknown): boolean {
  return error instanceof ServingError && ['WORKER_LOST', 'DECODE_LOST'].includes(error.code);
}
