import { basename, resolve } from 'node:path';
import { userInfo } from 'node:os';
import {
  addressSetting,
  redisUrlSetting,
  TLS_SETTINGS,
} from '../platform/config/common-settings.js';
import {
  choiceSetting,
  integerSetting,
  optionalTextSetting,
  textSetting,
} from '../platform/config/setting-kinds.js';

/** The settings that worker and decode share but for the name of their role. */
export function hostSettings(role: 'WORKER' | 'DECODE', defaultListen: string) {
  return {
    listen: addressSetting({
      env: `${role}_LISTEN`,
      default: defaultListen,
      description: 'gRPC address; port 0 takes a free one',
    }),
    advertise: optionalTextSetting({
      env: `${role}_ADVERTISE`,
      description: 'host:port under which others reach this process; default: the bound address',
    }),
    redisUrl: redisUrlSetting(),
    memberId: optionalTextSetting({
      env: `${role}_ID`,
      description: 'stable name in the fleet; default: a new one for each process',
    }),
    ...engineSettings(role),
    metricsListen: optionalTextSetting({
      env: 'METRICS_LISTEN',
      description: 'host:port of /metrics over HTTP; unset: not served',
    }),
    ...TLS_SETTINGS,
  };
}

/** What is loaded, where it computes, and where segments lie. */
function engineSettings(role: 'WORKER' | 'DECODE') {
  return {
    modelDir: textSetting({
      env: `${role}_MODEL_DIR`,
      description: 'folder of the model, in Hugging Face layout',
    }),
    modelName: optionalTextSetting({
      env: `${role}_MODEL_NAME`,
      description: "the model's name in requests; default: its folder's name",
    }),
    device: choiceSetting({
      env: `${role}_DEVICE`,
      choices: ['cpu', 'reference'],
      default: 'cpu',
      description: 'where the engine computes',
    }),
    dtype: choiceSetting({
      env: `${role}_DTYPE`,
      choices: ['bf16', 'fp32'],
      default: 'bf16',
      description: 'storage and compute type of K, V and matrix products',
    }),
    threads: integerSetting({
      env: `${role}_THREADS`,
      default: 0,
      unit: 'threads',
      description: 'compute threads; 0: one a core',
    }),
    storeDir: textSetting({
      env: `${role}_STORE_DIR`,
      default: `/dev/shm/longshadow-${String(userInfo().uid)}`,
      description: 'directory of the value store; the same for all processes of a host',
    }),
  };
}

/** The served model's name: as set, or its folder's. */
export function modelName(settings: { modelName: string | null; modelDir: string }): string {
  return settings.modelName ?? basename(resolve(settings.modelDir));
}
