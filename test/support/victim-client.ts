/*
 * A client to be killed. Reads {address, header, ids, halfClose} as JSON from stdin, uploads, and
 * prints each event as a JSON line.
 */
import { text } from 'node:stream/consumers';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import { makeClient } from '../../services/platform/rpc/client.js';
import { idParts } from './generate.js';

const { address, header, ids, halfClose } = JSON.parse(await text(process.stdin)) as {
  address: string;
  header: GenerateHeader;
  ids: number[];
  halfClose: boolean;
};
const call = makeClient('router', address, null).generate();
call.on('data', (event: unknown) => {
  console.log(JSON.stringify(event));
});
call.on('error', (error: Error) => {
  console.log(JSON.stringify({ failed: error.message }));
});
call.write({ header });
for (const part of idParts(ids)) call.write({ part });
if (halfClose) call.end();
