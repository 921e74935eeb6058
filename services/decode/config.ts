import { bytesSetting, integerSetting } from '../platform/config/setting-kinds.js';
import { defineSettings, type SettingsOf } from '../platform/config/settings.js';
import { hostSettings } from '../engine-host/host-settings.js';

/** The decode's settings. Read once, in main.ts. */
export const DECODE_SETTINGS = defineSettings('decode', {
  ...hostSettings('DECODE', '127.0.0.1:7002'),
  maxSessions: integerSetting({
    env: 'DECODE_MAX_SESSIONS',
    default: 64,
    min: 1,
    unit: 'sessions',
    description: 'sessions held at once, kept ones included',
  }),
  maxPrivateBytes: bytesSetting({
    env: 'DECODE_MAX_PRIVATE_BYTES',
    default: 2 ** 32,
    description: 'K and V of generated tokens and appended turns, over all sessions',
  }),
  shutdownGraceMs: integerSetting({
    env: 'DECODE_SHUTDOWN_GRACE_MS',
    default: 20_000,
    unit: 'ms',
    description: 'how long sessions may decode on after SIGTERM',
  }),
});

export type DecodeSettings = SettingsOf<typeof DECODE_SETTINGS>;
