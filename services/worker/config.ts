import {
  bytesSetting,
  integerSetting,
  optionalTextSetting,
} from '../platform/config/setting-kinds.js';
import { defineSettings, type SettingsOf } from '../platform/config/settings.js';
import { hostSettings } from '../engine-host/host-settings.js';

/** The worker's settings. Read once, in main.ts. */
export const WORKER_SETTINGS = defineSettings('worker', {
  ...hostSettings('WORKER', '127.0.0.1:7001'),
  storeCapacityBytes: bytesSetting({
    env: 'WORKER_STORE_CAPACITY_BYTES',
    default: 0,
    description: 'bytes that sessions may reserve; 0: 80 % of what the file system gives at start',
  }),
  patternsFile: optionalTextSetting({
    env: 'WORKER_PATTERNS_FILE',
    description:
      "pattern file of MInference prefill, the router's for this model too; default: minference.json in the model's folder, without one every head has the default pattern",
  }),
  shutdownGraceMs: integerSetting({
    env: 'WORKER_SHUTDOWN_GRACE_MS',
    default: 20_000,
    unit: 'ms',
    description: 'how long the running chunk may go on after SIGTERM',
  }),
});

export type WorkerSettings = SettingsOf<typeof WORKER_SETTINGS>;
