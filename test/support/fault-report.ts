import { appendFileSync } from 'node:fs';

/** A file that `npm run test:faults` reads its table of recovery times from. */
const REPORT = process.env['LONGSHADOW_FAULT_REPORT'] ?? '';

/** Notes how long a client waited for its session to move again after a fault. */
export function noteRecovery(fault: string, recoveryMs: number): void {
  if (REPORT === '') return;
  appendFileSync(REPORT, `${JSON.stringify({ fault, recoveryMs: Math.round(recoveryMs) })}\n`);
}
