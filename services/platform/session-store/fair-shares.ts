import type { Redis } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import type { FairShares } from '../../domain/session-store.js';
import { newAppendId } from './append-id.js';
import { shareCallKey, sharesKey, tenantField } from './keys.js';
import { runScript } from './redis-connection.js';
import { MAX_PRIORITY, PRIORITY_STEP_TOKENS } from './scripts/fair-share-scripts.js';

/** Shares of a worker that got no job for so long are forgotten. */
const SHARES_LIFE_MS = 3_600_000;
/** Longer than a command whose connection broke waits to be sent again. */
const CALL_LIFE_MS = 60_000;

/**
 * Tenants' shares of each worker, on Redis. At MAX_PRIORITY, some 4 thousand million tokens without
 * an idle moment, jobs are equals: first come, first served.
 */
export function makeFairShares(redis: Redis): FairShares {
  return {
    nextPriority: async (workerId, tenant, chargedTokens, queueIsIdle) => {
      if (!Number.isFinite(chargedTokens) || chargedTokens < 0) {
        throw new ServingError('BAD_REQUEST', `cannot charge ${String(chargedTokens)} tokens`);
      }
      const priority = await runScript(
        redis,
        'nextPriority',
        ...[sharesKey(workerId), shareCallKey(newAppendId())],
        ...[tenantField(tenant), Math.ceil(chargedTokens), queueIsIdle ? 1 : 0],
        ...[SHARES_LIFE_MS, PRIORITY_STEP_TOKENS, MAX_PRIORITY, CALL_LIFE_MS],
      );
      return Number(priority);
    },

    started: async (workerId, priority) => {
      if (!Number.isInteger(priority) || priority < 1 || priority > MAX_PRIORITY) {
        throw new ServingError('BAD_REQUEST', `${String(priority)} is no priority of a job`);
      }
      const args = [sharesKey(workerId), priority, SHARES_LIFE_MS, PRIORITY_STEP_TOKENS];
      await runScript(redis, 'shareStarted', ...args);
    },
  };
}
