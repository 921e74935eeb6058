import { randomBytes } from 'node:crypto';
import {
  closeEngine,
  type ComputeDtype,
  type Device,
  type EngineHandle,
  type EngineInfo,
  engineInfo,
  openEngine,
  openValueStore,
  type ValueStoreHandle,
} from '../../native/ts/index.js';
import type { FleetMember } from '../domain/fleet.js';
import type { ResolvedPolicy } from '../domain/policy.js';
import { sessionFingerprint } from '../platform/fingerprint.js';
import { modelName } from './host-settings.js';
import { toServingError } from './native-error-code.js';
import { storeIdentity } from './store-identity.js';

/** Host and stage of a member; one stage serves every model so far. */
export const STAGE = 0;
const STAGES = 1;

export interface EngineHostSettings {
  readonly modelDir: string;
  readonly modelName: string | null;
  readonly device: Device;
  readonly dtype: ComputeDtype;
  readonly threads: number;
  readonly storeDir: string;
  readonly memberId: string | null;
}

/** A loaded model and the value store beside it: what worker and decode are built around. */
export interface EngineHost {
  readonly engine: EngineHandle;
  readonly info: EngineInfo;
  readonly valueStore: ValueStoreHandle;
  readonly storeDir: string;
  readonly storeId: string;
  readonly memberId: string;
  readonly model: string;
  readonly startedUnixMs: number;
  /** What the bytes of a session must carry in this engine's stage. */
  readonly fingerprint: (
    session: { sessionId: string; epoch: number },
    policy: ResolvedPolicy,
  ) => string;
  /** Lets running work end, then frees the weights. */
  close(): Promise<void>;
}

/**
 * Loads the model and opens the store.
 *
 * @throws ServingError MODEL_INVALID, VALUE_STORE_FULL, BAD_REQUEST with what to change
 */
export async function openEngineHost(
  role: FleetMember['role'],
  settings: EngineHostSettings,
  nowUnixMs: number,
): Promise<EngineHost> {
  const { modelDir: modelDirectory, device, dtype, threads, storeDir } = settings;
  try {
    const valueStore = openValueStore(storeDir);
    const engine = await openEngine({
      modelDirectory,
      device,
      dtype,
      threads,
      layerBegin: 0,
      layerEnd: null,
    });
    const info = engineInfo(engine);
    const { modelFingerprint, layerBegin, layerEnd } = info;
    return {
      engine,
      info,
      valueStore,
      storeDir,
      storeId: await storeIdentity(storeDir),
      memberId: settings.memberId ?? `${role}-${randomBytes(4).toString('hex')}`,
      model: modelName(settings),
      startedUnixMs: nowUnixMs,
      fingerprint: ({ sessionId, epoch }, policy) =>
        sessionFingerprint({ modelFingerprint, policy, sessionId, epoch, layerBegin, layerEnd }),
      close: () => closeEngine(engine),
    };
  } catch (error) {
    throw toServingError(error);
  }
}

/** The heartbeat of a host; the caller adds what only its role knows. */
export function describeMember(
  host: EngineHost,
  role: FleetMember['role'],
  now: Pick<
    FleetMember,
    | 'address'
    | 'activeSessions'
    | 'maxSessions'
    | 'privateCapacityBytes'
    | 'patternsSha256'
    | 'draining'
    | 'storeCapacityBytes'
    | 'storeFreeBytes'
  >,
): FleetMember {
  const { info } = host;
  return {
    memberId: host.memberId,
    role,
    model: host.model,
    modelFingerprint: info.modelFingerprint,
    dtype: info.dtype,
    device: info.device,
    instructionSet: info.instructionSet,
    stage: STAGE,
    stages: STAGES,
    layerBegin: info.layerBegin,
    layerEnd: info.layerEnd,
    vocabSize: info.vocabSize,
    maxPositions: info.maxPositions,
    eosTokenIds: info.eosTokenIds,
    kvBytesPerToken: info.kvBytesPerToken,
    storeId: host.storeId,
    startedUnixMs: host.startedUnixMs,
    ...now,
  };
}
