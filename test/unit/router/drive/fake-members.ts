import type { PolicyDefaults } from '../../../../services/router/admission/policy-defaults.js';
import type { FleetMember } from '../../../../services/domain/fleet.js';
import type { MemberCounters } from '../../../../services/router/drive/peers.js';

export const KV_BYTES_PER_TOKEN = 1_000;

export function fakeMember(
  role: 'worker' | 'decode',
  change: Partial<FleetMember> = {},
): FleetMember {
  return {
    memberId: `${role}-1`,
    role,
    address: `${role}.test:1`,
    model: 'needle',
    modelFingerprint: 'a'.repeat(32),
    dtype: 'fp32',
    device: 'cpu',
    instructionSet: 'avx2',
    stage: 0,
    stages: 1,
    layerBegin: 0,
    layerEnd: 6,
    vocabSize: 4_096,
    maxPositions: 1_048_576,
    eosTokenIds: [3],
    kvBytesPerToken: KV_BYTES_PER_TOKEN,
    patternsSha256: role === 'worker' ? POLICY_DEFAULTS.patternsSha256 : '',
    storeId: 'store-1',
    storeCapacityBytes: 2_000_000_000,
    storeFreeBytes: 2_000_000_000,
    activeSessions: 0,
    maxSessions: 0,
    privateCapacityBytes: 0,
    draining: false,
    startedUnixMs: 1,
    ...change,
  };
}

export const NO_COUNTERS: MemberCounters = {
  sessions: 0,
  storeFiles: 0,
  storeFileBytes: 0,
  mappings: 0,
  mappedBytes: 0,
  privateBytes: 0,
  residentBytes: 0,
  prefillChunks: 0,
  decodeCalls: 0,
  decodeSteps: 0,
};

/** Of every model of a test. */
export const POLICY_DEFAULTS: PolicyDefaults = {
  ...{ prefillPolicy: 'dense', tilesPerBlock: 64, denseBelowTokens: 8_192, guardInterval: 8 },
  patternsSha256: 'e'.repeat(64),
};
