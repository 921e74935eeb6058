#!/usr/bin/env node
/*
 * Asks a service of this container for its health (grpc.health.v1): exit status 0 if it serves,
 * 1 if it does not. Kubernetes' own gRPC probe and most stand-alone checkers cannot show a client
 * certificate, which every non-loopback listener of Longshadow demands.
 *
 *   node health-check.mjs HOST:PORT
 *
 * With LONGSHADOW_TLS_CERT, _KEY and _CA it uses mutual TLS; the server's certificate must name
 * LONGSHADOW_TLS_HEALTH_NAME (default `localhost`).
 */
import { readFileSync } from 'node:fs';
import { Client, credentials } from '@grpc/grpc-js';

const DEADLINE_MS = 3_000;
/** HealthCheckResponse { status = SERVING }: field 1, varint 1. HealthCheckRequest {}: no bytes. */
const SERVING = Buffer.from([0x08, 0x01]);

const { LONGSHADOW_TLS_CERT: cert, LONGSHADOW_TLS_KEY: key, LONGSHADOW_TLS_CA: ca } = process.env;
const serverName = process.env.LONGSHADOW_TLS_HEALTH_NAME ?? 'localhost';
const address = process.argv[2];

if (address === undefined) end('usage: health-check.mjs HOST:PORT');
const isTls = cert !== undefined && key !== undefined && ca !== undefined;
const client = isTls
  ? new Client(
      address,
      credentials.createSsl(...[ca, key, cert].map((path) => readFileSync(path))),
      {
        'grpc.ssl_target_name_override': serverName,
        'grpc.enable_http_proxy': 0,
      },
    )
  : new Client(address, credentials.createInsecure(), { 'grpc.enable_http_proxy': 0 });

client.makeUnaryRequest(
  '/grpc.health.v1.Health/Check',
  () => Buffer.alloc(0),
  (bytes) => bytes,
  null,
  { deadline: Date.now() + DEADLINE_MS },
  (error, reply) => {
    if (error !== null) end(error.message);
    if (!SERVING.equals(reply)) end('not serving');
    process.exit(0);
  },
);

function end(message) {
  console.error(message);
  process.exit(1);
}
