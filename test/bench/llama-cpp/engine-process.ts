/*
 * The program of one of the two processes. Each engine has its own, so that neither's settings of
 * libraries, threads and memory reach the other; the one that is not asked waits without work.
 */
import type { PrefillPolicy } from '../../../services/domain/policy.js';
import { LlamaEngine, type LlamaOptions } from './llama-engine.js';
import type { LlamaSetup } from './llama-setup.js';
import { OurEngine, type OurOptions } from './our-engine.js';
import type { OurRun, PrefillRun } from './prefill-run.js';

/** What the processes answer to; each method takes one argument. */
export interface OurCalls {
  open(options: OurOptions): Promise<{ instructionSet: string }>;
  prefill(request: { ids: Uint32Array; policy: PrefillPolicy }): Promise<OurRun>;
  close(nothing: null): Promise<null>;
}
export interface LlamaCalls {
  open(options: LlamaOptions): Promise<ReturnType<LlamaEngine['describe']>>;
  prefill(request: { ids: Uint32Array; setup: LlamaSetup }): Promise<PrefillRun>;
  close(nothing: null): Promise<null>;
}

export interface Request {
  readonly method: string;
  readonly argument: unknown;
}
export type Reply = { readonly result: unknown } | { readonly failure: string };

type Calls = Readonly<Record<string, (argument: never) => Promise<unknown>>>;

function ourCalls(): OurCalls {
  let engine: OurEngine | null = null;
  return {
    async open(options) {
      engine = await OurEngine.open(options);
      return { instructionSet: engine.instructionSet };
    },
    prefill: ({ ids, policy }) => opened(engine).prefill(ids, policy),
    async close() {
      await engine?.close();
      return null;
    },
  };
}

function llamaCalls(): LlamaCalls {
  let engine: LlamaEngine | null = null;
  return {
    async open(options) {
      engine = await LlamaEngine.open(options);
      return engine.describe();
    },
    prefill: ({ ids, setup }) => opened(engine).prefill(ids, setup),
    async close() {
      await engine?.close();
      return null;
    },
  };
}

function opened<Engine>(engine: Engine | null): Engine {
  if (engine === null) throw new Error('open comes first');
  return engine;
}

function serve(calls: Calls): void {
  const reply = (message: Reply): void => {
    process.send?.(message);
  };
  process.on('message', ({ method, argument }: Request) => {
    const answer = async (): Promise<unknown> => calls[method]?.(argument as never);
    answer().then(
      (result) => reply({ result }),
      (error: unknown) =>
        reply({ failure: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  });
}

serve({ ...(process.argv[2] === 'ours' ? ourCalls() : llamaCalls()) });
