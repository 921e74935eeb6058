import { after, before } from 'node:test';
import * as native from '../../native/ts/index.js';
import { ENGINE_OPTIONS, TemporaryStore } from './native-fixture.js';

/** The embedded model and a value store, open while the tests of a file run. */
export class EngineWorld {
  readonly store = new TemporaryStore();
  #engine: native.EngineHandle | null = null;

  constructor(changes: Partial<native.EngineOptions> = {}) {
    before(async () => {
      this.#engine = await native.openEngine({ ...ENGINE_OPTIONS, ...changes });
    });
    after(async () => {
      await native.closeEngine(this.engine);
      this.store.remove();
    });
  }

  get engine(): native.EngineHandle {
    if (this.#engine === null) throw new Error('the engine opens before the first test');
    return this.#engine;
  }

  get info(): native.EngineInfo {
    return native.engineInfo(this.engine);
  }
}
