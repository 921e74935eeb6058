/** A process under runMain(), for its tests. PROBE_DOES says what the main function does. */
import { textSetting } from '../../services/platform/config/setting-kinds.js';
import { defineSettings } from '../../services/platform/config/settings.js';
import { runMain } from '../../services/platform/shutdown.js';

const settings = defineSettings('probe', {
  needed: textSetting({ env: 'PROBE_NEEDED', description: 'must be set' }),
});

async function untilAborted(signal: AbortSignal): Promise<void> {
  const alive = setInterval(() => undefined, 1_000);
  await new Promise((resolve) => {
    signal.addEventListener('abort', resolve);
    process.stdout.write('ready\n');
  });
  clearInterval(alive);
}

runMain(
  'probe',
  async (signal) => {
    switch (process.env['PROBE_DOES']) {
      case 'waits':
        await untilAborted(signal);
        process.stdout.write('ended well\n');
        return;
      case 'hangs':
        await untilAborted(signal);
        await new Promise(() => setInterval(() => undefined, 1_000));
        return;
      case 'throws':
        throw new Error('no model');
      case 'rejects':
        void Promise.reject(new Error('a bug'));
        await untilAborted(signal);
        return;
      default:
        return;
    }
  },
  { settings },
);
