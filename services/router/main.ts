import { parseSettings } from '../platform/config/settings.js';
import { runMain } from '../platform/shutdown.js';
import { ROUTER_SETTINGS } from './config.js';
import { runRouter } from './run-router.js';

runMain(
  'router',
  async (shutdownSignal, environment) =>
    runRouter(parseSettings(ROUTER_SETTINGS, environment), shutdownSignal, (address) => {
      process.stdout.write(`longshadow-router ready ${address}\n`);
    }),
  { settings: ROUTER_SETTINGS },
);
