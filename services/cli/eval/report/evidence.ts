import type { Interval } from './statistics.js';
import type { Evidence, SummaryRow } from './summary-types.js';

/** What a control's difference to dense says of a task; null where there is none. */
export function evidenceOfDifference(toDense: Interval | null): Evidence {
  if (toDense === null) return 'no control';
  return toDense.high < 0 ? 'some' : 'none';
}

/** Whether a sparse policy's figures show nothing: its control does as well as dense, or did not run. */
export function isNoEvidence({ evidence }: Pick<SummaryRow, 'evidence'>): boolean {
  return evidence !== null && evidence !== 'some';
}
