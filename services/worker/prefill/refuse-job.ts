import type { PrefillJob } from '../../domain/prefill-job.js';
import { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';

/** @throws ServingError if there is no record, or it ended, or its plan has another number */
export function refuseOver(record: SessionRecord | null, epoch: number): SessionRecord {
  if (record === null) throw new ServingError('SESSION_NOT_FOUND', 'the session has no record');
  if (ENDED_STATES.has(record.state)) {
    throw new ServingError('SESSION_ENDED', `the session is ${record.state}`);
  }
  if (record.epoch !== epoch) {
    throw new ServingError('STALE_EPOCH', `the session is at epoch ${String(record.epoch)}`);
  }
  return record;
}

/**
 * Compares what a job says of the model with what its session's record says, and that with what is
 * loaded here.
 *
 * @param here fingerprints of this worker's model, and of the session's bytes in it
 * @throws ServingError JOB_CORRUPT if job and record differ; DATA_LOSS if the record fits another engine
 */
export function refuseForeign(
  job: Pick<PrefillJob, 'modelFingerprint' | 'fingerprint'>,
  record: Pick<SessionRecord, 'modelFingerprint' | 'fingerprint'>,
  here: Pick<PrefillJob, 'modelFingerprint' | 'fingerprint'>,
): void {
  if (
    record.modelFingerprint !== here.modelFingerprint ||
    record.fingerprint !== here.fingerprint
  ) {
    throw new ServingError(
      'DATA_LOSS',
      "the session's fingerprint is not that of this worker's model, weights and policy",
    );
  }
  if (job.modelFingerprint !== record.modelFingerprint || job.fingerprint !== record.fingerprint) {
    throw new ServingError('JOB_CORRUPT', "the job's fingerprint is not that of its session");
  }
}

/** @throws ServingError RESERVATION_EXCEEDED if positions up to `endToken` were not paid for */
export function refuseUnreserved(record: SessionRecord, endToken: number): void {
  const { reservation } = record;
  if (reservation === null || endToken <= reservation.tokens) return;
  const description = `memory for ${String(reservation.tokens)} tokens was reserved at admission`;
  throw new ServingError(
    'RESERVATION_EXCEEDED',
    `the chunk ends at token ${String(endToken)}; ${description}`,
    { quota: { subject: 'reserved tokens', description } },
  );
}
