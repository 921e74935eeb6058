import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { Reservation } from '../../domain/session-record.js';
import type { Reservations } from '../../domain/session-store.js';
import { type Lane, rankLanes, sessionBytes } from './choose-lane.js';
import type { ServedModel } from './served-model.js';

/** When a client may ask again after all stores were full: other sessions end meanwhile. */
const FULL_RETRY_MS = 5_000;

export interface PlacedSession {
  readonly lane: Lane;
  readonly reservation: Reservation;
}

/**
 * Reserves host memory for a session on the best lane that has room.
 * @throws ServingError NO_WORKER, NO_DECODE, TOO_MANY_SESSIONS, VALUE_STORE_FULL
 */
export async function reserveLane(
  request: {
    readonly sessionId: string;
    readonly model: ServedModel;
    readonly tokens: number;
    readonly members: readonly FleetMember[];
    readonly placedSessions: ReadonlyMap<string, number>;
  },
  reservations: Reservations,
): Promise<PlacedSession> {
  const { sessionId, model, tokens, members, placedSessions } = request;
  const stores = [...new Set(members.map(({ storeId }) => storeId))];
  const reservedBytes = new Map(
    await Promise.all(
      stores.map(async (id) => [id, await reservations.reservedBytes(id)] as const),
    ),
  );
  const load = { reservedBytes, placedSessions };
  const bytes = sessionBytes(tokens, model.kvBytesPerToken);
  for (const lane of rankLanes(model.name, model.modelFingerprint, members, load)) {
    const { storeId, storeCapacityBytes } = lane.worker;
    if (await reservations.reserve(storeId, sessionId, bytes, storeCapacityBytes)) {
      return { lane, reservation: { storeId, bytes, tokens } };
    }
  }
  throw storeFull(bytes, tokens, model.name);
}

export function storeFull(bytes: number, tokens: number, model: string): ServingError {
  return new ServingError(
    'VALUE_STORE_FULL',
    `no value store has ${String(bytes)} bytes left for ${String(tokens)} tokens of model ${model}; ` +
      'lower max_prompt_tokens, or try again when other sessions have ended',
    {
      retryAfterMs: FULL_RETRY_MS,
      quota: {
        subject: 'value store bytes',
        description: `${String(bytes)} bytes wanted for ${String(tokens)} tokens`,
      },
    },
  );
}
