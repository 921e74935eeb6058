import {
  addressSetting,
  redisUrlSetting,
  TLS_SETTINGS,
} from '../platform/config/common-settings.js';
import {
  integerSetting,
  optionalTextSetting,
  textSetting,
} from '../platform/config/setting-kinds.js';
import { defineSettings, type Setting, type SettingsOf } from '../platform/config/settings.js';
import type { PrefillPolicy } from '../domain/policy.js';
import {
  DEFAULT_DENSE_BELOW_TOKENS,
  DEFAULT_TILES_PER_BLOCK,
  MAX_TILES_PER_BLOCK,
} from '../domain/sparse-policy.js';
import { PREFILL_POLICIES } from './admission/resolve-policy.js';
import { parseNamedValues, perModelSetting } from './named-values.js';

/** `name=directory,name=directory`. */
function modelsSetting(): Setting<ReadonlyMap<string, string>> {
  const setting = textSetting({
    env: 'ROUTER_MODELS',
    description: 'Models and the folders of their tokenizers: name=directory[,name=directory]',
  });
  return { ...setting, parse: (text) => parseNamedValues(text, 'directory') };
}

function parsePolicy(text: string): PrefillPolicy {
  const found = PREFILL_POLICIES.find((policy) => policy === text);
  if (found !== undefined) return found;
  throw new Error(`want one of ${PREFILL_POLICIES.join(', ')} for each model`);
}

/** How models prefill, where a request does not say. */
const POLICY_SETTINGS = {
  prefillPolicies: perModelSetting(
    {
      env: 'ROUTER_PREFILL_POLICIES',
      description:
        'Prefill policy of models, where a request does not say: name=policy[,name=policy]; others are dense',
    },
    'policy',
    parsePolicy,
  ),
  patternsFiles: perModelSetting(
    {
      env: 'ROUTER_PATTERNS_FILES',
      description:
        "Pattern files of MInference prefill, those of the models' workers too: name=file[,name=file]; others have minference.json in the model's folder, or the default pattern in every head",
    },
    'file',
    (path) => path,
  ),
  tilesPerBlock: integerSetting({
    env: 'ROUTER_TILES_PER_BLOCK',
    default: DEFAULT_TILES_PER_BLOCK,
    min: 1,
    max: MAX_TILES_PER_BLOCK,
    unit: 'tiles',
    description:
      'Sparse prefill: most key tiles (64 keys) of a block of 64 queries, where neither request nor pattern file says',
  }),
  denseBelowTokens: integerSetting({
    env: 'ROUTER_DENSE_BELOW_TOKENS',
    default: DEFAULT_DENSE_BELOW_TOKENS,
    max: 2 ** 32 - 1,
    unit: 'tokens',
    description: 'Sparse prefill: chunks that end at or before this position are dense',
  }),
  guardInterval: integerSetting({
    env: 'ROUTER_SPARSE_GUARD_INTERVAL',
    default: 8,
    max: 2 ** 31 - 1,
    description:
      'Sparse prefill: of every so many layers of chunks, one has a block of queries computed densely too, for longshadow_sparse_guard_error; 0: none',
  }),
};

/** The router's settings. Parsed once, in main.ts; nothing else reads the environment. */
export const ROUTER_SETTINGS = defineSettings('router', {
  listenAddress: addressSetting({
    env: 'ROUTER_LISTEN',
    default: '127.0.0.1:7000',
    description: 'Address of the gRPC service; port 0 takes any free one',
  }),
  metricsAddress: addressSetting({
    env: 'METRICS_LISTEN',
    default: '127.0.0.1:0',
    description: 'Address of /metrics; loopback only',
  }),
  redisUrl: redisUrlSetting(),
  models: modelsSetting(),
  ...POLICY_SETTINGS,
  defaultMaxPromptTokens: integerSetting({
    env: 'ROUTER_DEFAULT_MAX_PROMPT_TOKENS',
    default: 131_072,
    min: 1,
    unit: 'tokens',
    description: 'What admission reserves when a header does not say; the model may allow less',
  }),
  defaultMaxNewTokens: integerSetting({
    env: 'ROUTER_DEFAULT_MAX_NEW_TOKENS',
    default: 512,
    min: 1,
    unit: 'tokens',
    description: 'Tokens to generate when a header does not say',
  }),
  maxSessions: integerSetting({
    env: 'ROUTER_MAX_SESSIONS',
    default: 1_024,
    min: 1,
    description: 'Sessions that this router drives at a time, kept ones included',
  }),
  maxSessionsPerTenant: integerSetting({
    env: 'ROUTER_MAX_SESSIONS_PER_TENANT',
    default: 0,
    description: 'Of them, sessions of one tenant; 0: any number',
  }),
  maxQueuedJobs: integerSetting({
    env: 'ROUTER_MAX_QUEUED_JOBS',
    default: 1_000,
    min: 1,
    description: "Jobs on a worker's queue from which on it takes no new session",
  }),
  maxKeepSessionMs: integerSetting({
    env: 'ROUTER_MAX_KEEP_SESSION_MS',
    default: 3_600_000,
    unit: 'ms',
    description: 'Longest time that a session is kept for another turn',
  }),
  uploadIdleMs: integerSetting({
    env: 'ROUTER_UPLOAD_IDLE_MS',
    default: 60_000,
    min: 1,
    max: 2 ** 31 - 1,
    unit: 'ms',
    description: 'How long an open upload may send nothing before its session is ended',
  }),
  apiKeysFile: optionalTextSetting({
    env: 'ROUTER_API_KEYS_FILE',
    description:
      'File of the API keys that callers must send (`longshadow keys add`), read again when it changes; unset: no key is wanted, and only loopback may be listened on',
  }),
  recoveryMs: integerSetting({
    env: 'ROUTER_RECOVERY_MS',
    default: 600_000,
    unit: 'ms',
    description:
      'How long a session without a deadline waits for another worker or decode after it lost its own',
  }),
  shutdownGraceMs: integerSetting({
    env: 'ROUTER_SHUTDOWN_GRACE_MS',
    default: 5_000,
    unit: 'ms',
    description: 'How long uploads may go on after SIGTERM; sessions go on at other routers',
  }),
  ...TLS_SETTINGS,
});

export type RouterSettings = SettingsOf<typeof ROUTER_SETTINGS>;
