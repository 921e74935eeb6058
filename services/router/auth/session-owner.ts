import { ServingError } from '../../domain/serving-error.js';
import { SESSION_ID_PATTERN, type SessionRecord } from '../../domain/session-record.js';

/** The part of the session records that the check needs. */
interface Records {
  load(sessionId: string): Promise<Pick<SessionRecord, 'tenant'> | null>;
}

/**
 * Lets a call go on with a session of its own tenant only. A session of another tenant answers as
 * one that is not there, so that nobody learns which ids exist.
 *
 * @param tenant of the call (CallContext.tenant); null where API keys are off: all may do all
 * @param field of the request that names the session
 * @throws ServingError SESSION_NOT_FOUND; BAD_REQUEST for what is no session id
 */
export async function requireOwnSession(
  sessionId: string,
  tenant: string | null,
  records: Records,
  field = 'session_id',
): Promise<void> {
  if (!SESSION_ID_PATTERN.test(sessionId)) {
    throw new ServingError('BAD_REQUEST', `${field} must be 32 hex digits`, {
      fieldViolations: [{ field, description: 'must be 32 hex digits' }],
    });
  }
  if (tenant === null) return;
  const record = await records.load(sessionId);
  if (record !== null && isOwn(record, tenant)) return;
  throw new ServingError(
    'SESSION_NOT_FOUND',
    `session ${sessionId} is unknown or ended more than 10 minutes ago`,
  );
}

/** True for sessions that a caller of this tenant may see. */
export function isOwn(record: Pick<SessionRecord, 'tenant'>, tenant: string | null): boolean {
  return tenant === null || record.tenant === tenant;
}
