import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { formatHostPort, isLoopback, parseListenAddress } from './rpc/listen-address.js';
import { ServingError } from '../domain/serving-error.js';

/*
 * Metric names and buckets, each defined once. A service emits only what it asks for here: a
 * metric function makes its metric in the registry at the first call and returns it after that.
 */

/**
 * One ladder for everything that a million-token prompt can stretch: 1 ms to 7,200 s, three to
 * four steps a decade. Ladders that end at some minutes put the longest prompts into +Inf.
 */
export const LONG_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 240, 480,
  900, 1_800, 3_600, 7_200,
];

/** 1 ms to 10 s, dense around the promised 500 ms. */
export const CANCEL_SECONDS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2, 5, 10,
];

/** 1 ms to 10 s: one step of decode, one piece of work between two polls. */
export const TOKEN_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10,
];

/**
 * A registry whose metrics carry `service`, with the process's own (memory, CPU, event loop) and
 * those of every server. These are there from the start: a series that appears with its first event
 * hides that event from rate().
 */
export function makeMetrics(service: string): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ service });
  collectDefaultMetrics({ register: registry });
  rpcSeconds(registry);
  refusalsTotal(registry);
  dataLossTotal(registry);
  return registry;
}

function histogram<L extends string>(
  registry: Registry,
  name: string,
  help: string,
  buckets: number[],
  labelNames: readonly L[],
): Histogram<L> {
  const found = registry.getSingleMetric(name);
  if (found instanceof Histogram) return found;
  return new Histogram({ name, help, buckets, labelNames, registers: [registry] });
}

function counter<L extends string>(
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly L[],
): Counter<L> {
  const found = registry.getSingleMetric(name);
  if (found instanceof Counter) return found;
  return new Counter({ name, help, labelNames, registers: [registry] });
}

function gauge<L extends string>(
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly L[],
  collect: ((gauge: Gauge<L>) => void) | null = null,
): Gauge<L> {
  const found = registry.getSingleMetric(name);
  if (found instanceof Gauge) return found;
  const made: Gauge<L> = new Gauge({
    ...{ name, help, labelNames, registers: [registry] },
    ...(collect === null
      ? {}
      : {
          collect: () => {
            collect(made);
          },
        }),
  });
  return made;
}

/** Every call that a server answered, by method and gRPC code. */
export function rpcSeconds(registry: Registry): Histogram<'method' | 'code'> {
  const help = 'Duration of gRPC calls by method and status code';
  return histogram(registry, 'longshadow_rpc_seconds', help, LONG_SECONDS, ['method', 'code']);
}

/** By the router. */
export function timeToFirstTokenSeconds(registry: Registry): Histogram<'model'> {
  const help = 'Admission to first token';
  return histogram(registry, 'longshadow_time_to_first_token_seconds', help, LONG_SECONDS, [
    'model',
  ]);
}

/** By the decode: mean of a turn, first token excluded. */
export function timePerOutputTokenSeconds(registry: Registry): Histogram<'model'> {
  const help = 'Time per output token after the first, mean of a turn';
  return histogram(registry, 'longshadow_time_per_output_token_seconds', help, TOKEN_SECONDS, [
    'model',
  ]);
}

/** By the worker: from the job's entry into the queue to its start. */
export function queueWaitSeconds(registry: Registry): Histogram<'kind'> {
  const help = 'Time that prefill and seal jobs wait on a queue';
  return histogram(registry, 'longshadow_queue_wait_seconds', help, LONG_SECONDS, ['kind']);
}

/** By the worker. */
export function queueDepthGauge(registry: Registry): Gauge {
  const help = "Jobs that wait on this worker's queue, the running one not counted";
  return gauge(registry, 'longshadow_queue_depth', help, []);
}

/** By the worker: engine and file work of one job. */
export function chunkSeconds(registry: Registry): Histogram<'kind' | 'stage'> {
  const help = 'Time to run one prefill or seal job, by kind and stage';
  return histogram(registry, 'longshadow_chunk_seconds', help, LONG_SECONDS, ['kind', 'stage']);
}

/** By the decode: every token but the first of an attempt. */
export function interTokenSeconds(registry: Registry): Histogram<'model'> {
  const help = 'Time between two tokens of a session';
  return histogram(registry, 'longshadow_inter_token_seconds', help, TOKEN_SECONDS, ['model']);
}

/** By the decode: one native call for the whole batch. */
export function decodeStepSeconds(registry: Registry): Histogram {
  const help = 'Time of one decode step for the whole batch';
  return histogram(registry, 'longshadow_decode_step_seconds', help, TOKEN_SECONDS, []);
}

/**
 * By router, worker and decode: from the moment a process learns of a cancellation, expiry or
 * release until the session's memory there (device, host, files) is free. Promise: 500 ms.
 */
export function cancelToFreeSeconds(registry: Registry): Histogram<'phase'> {
  const help = 'From a cancellation to freed memory, by the phase it met';
  return histogram(registry, 'longshadow_cancel_to_free_seconds', help, CANCEL_SECONDS, ['phase']);
}

/** By the router: computed and cached prompt tokens. */
export function promptTokensTotal(registry: Registry): Counter<'model' | 'source'> {
  const help = 'Prompt tokens by source (computed, cached)';
  return counter(registry, 'longshadow_prompt_tokens_total', help, ['model', 'source']);
}

export function generatedTokensTotal(registry: Registry): Counter<'model'> {
  return counter(registry, 'longshadow_generated_tokens_total', 'Tokens generated', ['model']);
}

export function sessionsEndedTotal(registry: Registry): Counter<'outcome'> {
  const help = 'Sessions that ended, by outcome (finished, cancelled, or an error code)';
  return counter(registry, 'longshadow_sessions_ended_total', help, ['outcome']);
}

export function refusalsTotal(registry: Registry): Counter<'code'> {
  const help = 'Calls that a server refused, by error code';
  return counter(registry, 'longshadow_refusals_total', help, ['code']);
}

/** By the router: sessions whose driver was gone, by the state they were found in. */
export function takeoversTotal(registry: Registry): Counter<'state'> {
  const help = 'Sessions that this router took over from one that is gone, by their state';
  return counter(registry, 'longshadow_takeovers_total', help, ['state']);
}

/** By the router: a lane began again, by the code of what was lost. */
export function replansTotal(registry: Registry): Counter<'cause'> {
  const help = 'Sessions that got a new lane, by what their old one was lost to';
  return counter(registry, 'longshadow_replans_total', help, ['cause']);
}

/** By the router: turns that another decode went on with, by the code of what was lost. */
export function decodeRestartsTotal(registry: Registry): Counter<'cause'> {
  const help = 'Turns that another decode went on with, by what the old one was lost to';
  return counter(registry, 'longshadow_decode_restarts_total', help, ['cause']);
}

export function evictionsTotal(registry: Registry): Counter {
  const help = 'Kept sessions that were ended before their time for the memory they held';
  return counter(registry, 'longshadow_evictions_total', help, []);
}

export function prefixChunksTotal(registry: Registry): Counter {
  const help = 'Prompt chunks linked from kept sessions that begin alike';
  return counter(registry, 'longshadow_prefix_chunks_total', help, []);
}

export function prefixTokensTotal(registry: Registry): Counter {
  const help = 'Prompt tokens of these chunks, which were not prefilled';
  return counter(registry, 'longshadow_prefix_tokens_total', help, []);
}

/** Blocks of bytes whose checksum or fingerprint did not match. */
export function dataLossTotal(registry: Registry): Counter<'kind'> {
  const help =
    'Bytes refused for a wrong checksum or fingerprint, by where: prefill, seal, decode, job, session, or an RPC';
  return counter(registry, 'longshadow_data_loss_total', help, ['kind']);
}

/** @param collect sets the values when they are asked for; without it the owner sets them */
export function sessionsGauge(
  registry: Registry,
  collect: ((gauge: Gauge<'state'>) => void) | null = null,
): Gauge<'state'> {
  const help = 'Sessions held by this process';
  return gauge(registry, 'longshadow_sessions', help, ['state'], collect);
}

export interface MetricsServer {
  /** Bound host:port. */
  readonly address: string;
  close(): Promise<void>;
}

/**
 * Serves /metrics over plain HTTP. Give it a loopback address, or one that only the scraper's
 * network reaches: metrics hold no prompt text, but they are not for everyone.
 */
export async function startMetricsServer(
  address: string,
  registry: Registry,
): Promise<MetricsServer> {
  const listen = parseListenAddress(address);
  if (listen.kind !== 'tcp' || !isLoopback(listen)) {
    throw new ServingError(
      'BAD_REQUEST',
      `metrics listen on loopback only, not on ${address}: use 127.0.0.1:port`,
    );
  }
  const server = createServer((request, response) => {
    if (request.method !== 'GET' || request.url?.split('?')[0] !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const message = `cannot serve metrics on ${address}: ${error.message}`;
      reject(new ServingError('BAD_REQUEST', message, {}, { cause: error }));
    });
    server.listen(listen.port, listen.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    address: formatHostPort(listen.host, port),
    close: async () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}
