/*
 * Prefill by this project's engine and by llama.cpp: the same weights, ids and threads, in turn.
 * Prints JSON lines; docs/benchmarks.md says what they mean.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { medianLine, pairLine, requireSameToken, type Pair } from './compare.js';
import { readModel } from './gguf/read-model.js';
import { writeGguf } from './gguf/write-gguf.js';
import { DEFAULT_SETUP, fastestSetup, type LlamaSetup } from './llama-setup.js';
import { makePrompt } from './make-prompt.js';
import { HELP, parseOptions, type BenchOptions } from './options.js';
import { startLlama, startOurs } from './start-process.js';

const MODEL = fileURLToPath(new URL('../../../models/needle', import.meta.url));
/** Where a cluster keeps keys and values too. */
const MEMORY_FILES = '/dev/shm';
const WARM_UP_TOKENS = 1_024;
/** Rounds at lengths up to this one, and at longer ones. */
const SHORT = { tokens: 8_192, rounds: 5, longerRounds: 3 } as const;

type Ours = ReturnType<typeof startOurs>;
type Theirs = ReturnType<typeof startLlama>;
interface Engines {
  readonly ours: Ours;
  readonly theirs: Theirs;
}

async function bench(options: BenchOptions, folder: string): Promise<void> {
  const engines = { ours: startOurs(), theirs: startLlama() };
  try {
    await openEngines(engines, options, folder);
    for (const tokens of options.tokens) await benchLength(engines, options, tokens);
    await engines.ours.close(null);
    await engines.theirs.close(null);
  } finally {
    await Promise.all([engines.ours.end(), engines.theirs.end()]);
  }
}

async function openEngines(
  { ours, theirs }: Engines,
  { threads, patterns }: BenchOptions,
  folder: string,
): Promise<void> {
  const { instructionSet } = await ours.open({
    modelDirectory: MODEL,
    threads,
    patternsFile: patterns,
    storeDirectory: join(folder, 'store'),
  });
  const llama = await theirs.open({ threads, files: writeWeights(folder) });
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, load: loadavg()[0] };
  print({ kind: 'machine', ...machine, threads, isa: instructionSet, llama_cpp: llama });
}

function writeWeights(folder: string): { BF16: string; F32: string } {
  const model = readModel(MODEL);
  const files = { BF16: join(folder, 'bf16.gguf'), F32: join(folder, 'f32.gguf') };
  writeFileSync(files.BF16, Buffer.concat(writeGguf(model, 'BF16')));
  writeFileSync(files.F32, Buffer.concat(writeGguf(model, 'F32')));
  return files;
}

async function benchLength(engines: Engines, options: BenchOptions, tokens: number): Promise<void> {
  const { ours, theirs } = engines;
  const ids = await makePrompt(MODEL, tokens);
  const warmUp = ids.slice(0, WARM_UP_TOKENS);
  await ours.prefill({ ids: warmUp, policy: 'dense' });
  await theirs.prefill({ ids: warmUp, setup: DEFAULT_SETUP });
  const setup = options.tune ? await tune(theirs, ids) : DEFAULT_SETUP;
  // Once untimed: makes the context, and touches its memory.
  await theirs.prefill({ ids, setup });
  const pairs: Pair[] = [];
  const rounds = options.rounds ?? (tokens > SHORT.tokens ? SHORT.longerRounds : SHORT.rounds);
  for (let round = 1; round <= rounds; round += 1) {
    for (const pair of await runRound(engines, options, ids, setup)) {
      print(pairLine(pair, round, options.threads));
      requireSameToken(pair);
      pairs.push(pair);
    }
  }
  for (const policy of options.policies) {
    print(
      medianLine(
        pairs.filter((pair) => pair.policy === policy),
        setup,
      ),
    );
  }
}

/** Every policy of ours, then llama.cpp: one run of its stands beside all of them. */
async function runRound(
  { ours, theirs }: Engines,
  { policies }: BenchOptions,
  ids: Uint32Array,
  setup: LlamaSetup,
): Promise<Pair[]> {
  const runs = [];
  for (const policy of policies) runs.push({ policy, ours: await ours.prefill({ ids, policy }) });
  const beside = await theirs.prefill({ ids, setup });
  return runs.map((run) => ({ ...run, tokens: ids.length, theirs: beside }));
}

function tune(theirs: Theirs, ids: Uint32Array): Promise<LlamaSetup> {
  return fastestSetup(async (setup) => {
    const { seconds } = await theirs.prefill({ ids, setup });
    print({ kind: 'setup', tokens: ids.length, llama_seconds: seconds, llama_setup: setup });
    return seconds;
  });
}

function print(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function main(options: BenchOptions): Promise<void> {
  const folder = mkdtempSync(join(MEMORY_FILES, 'longshadow-bench-'));
  const removeFolder = (): void => rmSync(folder, { recursive: true, force: true });
  process.on('exit', removeFolder);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));
  await bench(options, folder);
}

const options = parseOptions(process.argv.slice(2));
if (options === 'help') process.stdout.write(HELP);
else await main(options);
