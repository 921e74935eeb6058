import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { DriveDeps } from './drive-deps.js';

/** Tries of a release that gets no answer, and the pause between them. */
const TRIES = 3;
const RETRY_MS = 200;

/** Who may hold memory of a session; null: nobody of that role. */
export interface Members {
  readonly worker: FleetMember | null;
  readonly decode: FleetMember | null;
}

/**
 * Frees a session's memory at its worker and decode, at once and in parallel. Settles when both have
 * answered; a member that is gone has nothing to free. Idempotent.
 */
export async function freeSession(
  session: Members & { readonly sessionId: string; readonly epoch: number },
  deps: DriveDeps,
): Promise<void> {
  const { sessionId, epoch, worker, decode } = session;
  await Promise.all([
    release(worker, deps, async (address) =>
      deps.workers.releaseSession(address, sessionId, epoch),
    ),
    release(decode, deps, async (address) => deps.decodes.releaseSession(address, sessionId)),
  ]);
}

async function release(
  member: FleetMember | null,
  deps: DriveDeps,
  call: (address: string) => Promise<void>,
): Promise<void> {
  if (member === null) return;
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    try {
      await call(member.address);
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
