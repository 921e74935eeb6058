import { status } from '@grpc/grpc-js';
import type { Registry } from 'prom-client';
import type { Log } from '../log.js';
import { ServingError } from '../../domain/serving-error.js';
import { dataLossTotal, refusalsTotal, rpcSeconds } from '../metrics.js';
import type { Authenticate } from './authenticate.js';
import type { CallContext } from './call-context.js';
import { toStatus, type WireStatus } from './status.js';

/** What every adapter writes to. */
export interface AdapterOptions {
  readonly log: Log;
  readonly metrics: Registry;
  /** Asked before the handler runs. Absent: everyone who can connect may call. */
  readonly authenticate?: Authenticate | undefined;
}

/** Observes one call from its start; the returned function is called once, at the handler's end. */
export function observeCall(
  options: AdapterOptions,
  context: CallContext,
): { succeeded(): void; failed(error: unknown): WireStatus } {
  const startedMs = performance.now();
  const record = (code: status): Record<string, unknown> => {
    const ms = performance.now() - startedMs;
    const method = context.method.slice(context.method.lastIndexOf('/') + 1);
    rpcSeconds(options.metrics).observe({ method, code: status[code] }, ms / 1000);
    const { peer, traceparent } = context;
    return { method: context.method, code: status[code], ms: Math.round(ms), peer, traceparent };
  };
  return {
    succeeded: () => {
      options.log.debug(record(status.OK), 'call');
    },
    failed: (error) => {
      const wire = toStatus(error);
      const fields = record(wire.code);
      countFailure(options.metrics, context, wire.code, error);
      if (wire.code === status.INTERNAL || wire.code === status.DATA_LOSS) {
        options.log.error({ ...fields, err: error }, 'call failed');
      } else {
        options.log.info({ ...fields, details: wire.details }, 'call refused or ended');
      }
      return wire;
    },
  };
}

/** Codes that end a call which was taken; every other one refused it. */
const NOT_REFUSALS: ReadonlySet<status> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.DATA_LOSS,
  status.INTERNAL,
]);

function countFailure(metrics: Registry, context: CallContext, code: status, error: unknown): void {
  if (!(error instanceof ServingError)) return;
  const method = context.method.slice(context.method.lastIndexOf('/') + 1);
  if (code === status.DATA_LOSS) dataLossTotal(metrics).inc({ kind: method });
  else if (!NOT_REFUSALS.has(code)) refusalsTotal(metrics).inc({ code: error.code });
}
