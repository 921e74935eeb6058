import { parseSettings } from '../platform/config/settings.js';
import { makeLog } from '../platform/log.js';
import { runMain } from '../platform/shutdown.js';
import { DECODE_SETTINGS } from './config.js';
import { runDecode } from './run-decode.js';

runMain(
  'decode',
  (shutdownSignal, environment) =>
    runDecode(
      parseSettings(DECODE_SETTINGS, environment),
      shutdownSignal,
      makeLog('decode'),
      (address) => {
        process.stdout.write(`longshadow-decode ready ${address}\n`);
      },
    ),
  { settings: DECODE_SETTINGS },
);
