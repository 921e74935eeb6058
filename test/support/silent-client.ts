/** Opens a Generate call at argv[2], says so on stdout, and then does nothing until it is killed. */
import { makeClient } from '../../services/platform/rpc/client.js';

const call = makeClient('router', process.argv[2] ?? '', null).generate();
call.on('error', () => undefined);
call.on('data', () => process.stdout.write('open\n'));
call.write({ part: { text: Buffer.from('x') } });
