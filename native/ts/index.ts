import type {
  Addon,
  DecodeItem,
  DecodeSessionHandle,
  EngineHandle,
  EngineOptions,
  PrefillChunkRequest,
  PrefillSessionHandle,
  SessionKey,
  SparsePolicy,
  TriedHead,
  ValueStoreHandle,
} from './addon.js';
import { toNativeError } from './errors.js';
import { loadAddon } from './load.js';

/*
 * The typed face of the add-on, and the only way to it. Each function is the one of the same name
 * in addon.ts, where it is described; failures are NativeErrors. The add-on is loaded at the first
 * call, so importing this costs nothing.
 */
export type * from './addon.js';
export { NativeError } from './errors.js';

export const openEngine = asynchronous((addon, options: EngineOptions) =>
  addon.openEngine(options),
);
export const engineInfo = synchronous((addon, engine: EngineHandle) => addon.engineInfo(engine));
export const engineCounters = synchronous((addon, engine: EngineHandle) =>
  addon.engineCounters(engine),
);
export const closeEngine = asynchronous((addon, engine: EngineHandle) => addon.closeEngine(engine));

export const openValueStore = synchronous((addon, directory: string) =>
  addon.openValueStore(directory),
);
export const valueStoreStatus = synchronous((addon, store: ValueStoreHandle) =>
  addon.valueStoreStatus(store),
);
export const valueStoreFreeBytes = synchronous((addon, store: ValueStoreHandle) =>
  addon.valueStoreFreeBytes(store),
);
export const removeSessionFiles = synchronous(
  (addon, store: ValueStoreHandle, sessionId: string) => {
    addon.removeSessionFiles(store, sessionId);
  },
);

export const openPrefillSession = synchronous(
  (
    addon,
    engine: EngineHandle,
    store: ValueStoreHandle,
    key: SessionKey,
    sparse: SparsePolicy | null,
  ) => addon.openPrefillSession(engine, store, key, sparse),
);
export const prefillSessionSegments = synchronous((addon, session: PrefillSessionHandle) =>
  addon.prefillSessionSegments(session),
);
export const prefillChunk = asynchronous(
  (
    addon,
    session: PrefillSessionHandle,
    request: PrefillChunkRequest,
    onProgress: (share: number) => void,
  ) => addon.prefillChunk(session, request, onProgress),
);
export const tryPatterns = asynchronous(
  (
    addon,
    session: PrefillSessionHandle,
    request: PrefillChunkRequest,
    candidates: Float64Array,
    shown: TriedHead | null,
  ) => addon.tryPatterns(session, request, candidates, shown),
);
export const sealPrefillSession = asynchronous((addon, session: PrefillSessionHandle) =>
  addon.sealPrefillSession(session),
);
export const cancelPrefillSession = synchronous((addon, session: PrefillSessionHandle) => {
  addon.cancelPrefillSession(session);
});
export const closePrefillSession = asynchronous((addon, session: PrefillSessionHandle) =>
  addon.closePrefillSession(session),
);

export const openDecodeSession = asynchronous(
  (addon, engine: EngineHandle, store: ValueStoreHandle, key: SessionKey, handOff: Uint8Array) =>
    addon.openDecodeSession(engine, store, key, handOff),
);
export const openScratchSession = synchronous((addon, engine: EngineHandle) =>
  addon.openScratchSession(engine),
);
export const decodeStep = asynchronous((addon, engine: EngineHandle, items: DecodeItem[]) =>
  addon.decodeStep(engine, items),
);
export const appendLogits = asynchronous(
  (addon, session: DecodeSessionHandle, tokenIds: Uint32Array, rows: Float64Array) =>
    addon.appendLogits(session, tokenIds, rows),
);
export const decodeSessionTokens = synchronous((addon, session: DecodeSessionHandle) =>
  addon.decodeSessionTokens(session),
);
export const cancelDecodeSession = synchronous((addon, session: DecodeSessionHandle) => {
  addon.cancelDecodeSession(session);
});
export const closeDecodeSession = asynchronous((addon, session: DecodeSessionHandle) =>
  addon.closeDecodeSession(session),
);

function synchronous<Arguments extends unknown[], Result>(
  call: (addon: Addon, ...args: Arguments) => Result,
): (...args: Arguments) => Result {
  return (...args) => {
    try {
      return call(loadAddon(), ...args);
    } catch (error) {
      throw toNativeError(error);
    }
  };
}

function asynchronous<Arguments extends unknown[], Result>(
  call: (addon: Addon, ...args: Arguments) => Promise<Result>,
): (...args: Arguments) => Promise<Result> {
  return async (...args) => {
    try {
      return await call(loadAddon(), ...args);
    } catch (error) {
      throw toNativeError(error);
    }
  };
}
