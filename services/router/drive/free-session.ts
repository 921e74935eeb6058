import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { DriveDeps } from './drive-deps.js';
import { processOf } from './fleet-view.js';

/** Tries of a release that gets no answer, and the pause between them. */
const TRIES = 3;
const RETRY_MS = 50;

/** Who may hold memory of a session; null: nobody of that role. */
export interface Members {
  readonly worker: FleetMember | null;
  readonly decode: FleetMember | null;
  /** Where the session's segments are: any worker beside them can remove them. */
  readonly storeId: string | null;
}

/**
 * Frees a session's memory at its worker and decode, at once and in parallel. Settles when both have
 * answered. A decode that is gone has nothing to free; files of a worker that is gone are removed by
 * another one of its store, or else by the next that starts there. Idempotent.
 */
export async function freeSession(
  session: Members & { readonly sessionId: string; readonly epoch: number },
  deps: DriveDeps,
): Promise<void> {
  const { sessionId, epoch, worker, decode, storeId } = session;
  await Promise.all([
    freeWorker(worker, storeId, deps, async (address) =>
      deps.workers.releaseSession(address, sessionId, epoch),
    ),
    release(decode, deps, async (address) => deps.decodes.releaseSession(address, sessionId)),
  ]);
}

async function freeWorker(
  worker: FleetMember | null,
  storeId: string | null,
  deps: DriveDeps,
  call: (address: string) => Promise<void>,
): Promise<void> {
  if (await release(worker, deps, call)) return;
  const members = await deps.fleet.members().catch(() => []);
  const asked = worker === null ? null : processOf(worker);
  const neighbour = members.find(
    (member) =>
      member.role === 'worker' && member.storeId === storeId && processOf(member) !== asked,
  );
  if (neighbour !== undefined) await release(neighbour, deps, call);
}

/** @returns whether it answered */
async function release(
  member: FleetMember | null,
  deps: DriveDeps,
  call: (address: string) => Promise<void>,
): Promise<boolean> {
  if (member === null) return false;
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    try {
      await call(member.address);
      return true;
    } catch (error) {
      const { memberId } = member;
      deps.log.warn({ err: error, memberId, attempt }, 'release not answered');
      if (isGone(error) && !(await deps.fleet.isSameProcess(member).catch(() => true)))
        return false;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  return false;
}

function isGone(error: unknown): boolean {
  return error instanceof ServingError && ['WORKER_LOST', 'DECODE_LOST'].includes(error.code);
}
