import type { FleetMember } from '../domain/fleet.js';
import type { Log } from '../platform/log.js';

/** Members come and go for the life of a router; connections to those that are gone must not pile up. */
const SWEEP_MS = 60_000;

/** Connections, by worker ids or by addresses. */
interface Connections {
  retain(names: ReadonlySet<string>): void | Promise<void>;
}

export interface CloseUnusedDeps {
  readonly fleet: { members(): Promise<FleetMember[]> };
  /** Names members that sessions are on, in the fleet or not. */
  readonly driver: { members(): readonly FleetMember[] };
  readonly queues: Connections;
  readonly clients: readonly Connections[];
}

/** Closes connections to members that left the fleet and that no session is on. */
export async function closeUnused(deps: CloseUnusedDeps): Promise<void> {
  const members = [...(await deps.fleet.members()), ...deps.driver.members()];
  await deps.queues.retain(new Set(members.map(({ memberId }) => memberId)));
  const addresses = new Set(members.map(({ address }) => address));
  for (const clients of deps.clients) await clients.retain(addresses);
}

/** Does so every minute. @returns the function that stops it */
export function closeUnusedRegularly(deps: CloseUnusedDeps, log: Log): () => void {
  const timer = setInterval(() => {
    closeUnused(deps).catch((error: unknown) => {
      log.warn({ err: error }, 'unused connections stay open');
    });
  }, SWEEP_MS);
  return () => {
    clearInterval(timer);
  };
}
