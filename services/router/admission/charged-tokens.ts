import type { PrefillJob } from '../../domain/prefill-job.js';
import type { Priority } from '../../domain/session-record.js';

/** What one token of a prompt costs its tenant's share. */
const COST: Readonly<Record<Priority, number>> = { low: 4, normal: 1, high: 1 / 4 };

/**
 * Tokens that a tenant pays for a job: a low prompt pays four times its tokens, a high one a quarter.
 * A seal is free: it is short, and its prompt has been paid for.
 */
export function chargedTokens(
  { kind, beginToken, endToken }: Pick<PrefillJob, 'kind' | 'beginToken' | 'endToken'>,
  priority: Priority,
): number {
  return kind === 'seal' ? 0 : Math.ceil((endToken - beginToken) * COST[priority]);
}

/**
 * The share that pays for a session's jobs. A tenant's prompts of each priority have one of their own:
 * within one share jobs run in the order they came, so a high prompt would wait for low ones.
 */
export function shareOf({ tenant, priority }: { tenant: string; priority: Priority }): string {
  return JSON.stringify([tenant, priority]);
}
