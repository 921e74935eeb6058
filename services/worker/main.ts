import { parseSettings } from '../platform/config/settings.js';
import { makeLog } from '../platform/log.js';
import { runMain } from '../platform/shutdown.js';
import { WORKER_SETTINGS } from './config.js';
import { runWorker } from './run-worker.js';

runMain(
  'worker',
  (shutdownSignal, environment) =>
    runWorker(
      parseSettings(WORKER_SETTINGS, environment),
      shutdownSignal,
      makeLog('worker'),
      (address) => {
        process.stdout.write(`longshadow-worker ready ${address}\n`);
      },
    ),
  { settings: WORKER_SETTINGS },
);
