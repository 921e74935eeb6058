import assert from '../support/assert.js';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const fixture = new URL('./native-fixture.ts', import.meta.url).href;

/** Starts an engine, a store and a chunk of 8,192 tokens whose work has begun. */
const PRELUDE = `
  import { Worker, parentPort } from 'node:worker_threads';
  const f = await import(${JSON.stringify(fixture)});
  const native = await import(${JSON.stringify(new URL('../../native/ts/index.ts', import.meta.url).href)});
  const store = new f.TemporaryStore();
  const [, long] = f.needleSamples();
  const startChunk = async () => {
    const engine = await native.openEngine(f.ENGINE_OPTIONS);
    const session = native.openPrefillSession(engine, store.handle, f.newKey(), null);
    let failed;
    const work = new Promise((resolve) => {
      native.prefillChunk(session, f.chunkRequest(long.ids, 0, 8192), resolve)
        .then(resolve, (error) => { failed = error; resolve(); });
    });
    await work;
    if (failed) throw failed;
    return { engine, session };
  };
`;

/** A worker thread does not inherit the loader of TypeScript. */
const REGISTER = `import { register } from 'tsx/esm/api'; register();`;

interface Ending {
  code: number | null;
  signal: string | null;
  output: string;
}

async function runScript(script: string): Promise<Ending> {
  // A terminated thread removes nothing, so its store lies in a folder that goes with the script.
  const temporary = mkdtempSync(join(tmpdir(), 'longshadow-teardown-'));
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', PRELUDE + script],
    {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: temporary },
    },
  );
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (output += data.toString()));
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => {
    child.on('close', (...ending) => {
      resolve(ending);
    });
  });
  clearTimeout(timer);
  rmSync(temporary, { recursive: true, force: true });
  return { code, signal, output };
}

async function endsWith(script: string, code: number, output: RegExp): Promise<void> {
  const ending = await runScript(script);
  assert.deepEqual(
    { code: ending.code, signal: ending.signal },
    { code, signal: null },
    ending.output,
  );
  assert.match(ending.output, output);
}

test('process.exit in the middle of a chunk ends the process cleanly', async () => {
  await endsWith(`await startChunk(); console.log('working'); process.exit(7);`, 7, /^working\n$/);
});

test('process.exit while an engine opens ends the process cleanly', async () => {
  await endsWith(
    `native.openEngine(f.ENGINE_OPTIONS); console.log('opening'); process.exit(7);`,
    7,
    /^opening\n$/,
  );
});

test('an uncaught exception in the middle of a chunk ends the process cleanly', async () => {
  await endsWith(`await startChunk(); throw new Error('the reason');`, 1, /the reason/);
});

test('an idle engine does not keep the process alive', async () => {
  await endsWith(
    `const engine = await native.openEngine(f.ENGINE_OPTIONS);
     const session = native.openScratchSession(engine);
     await native.appendLogits(session, Uint32Array.of(1), Float64Array.of(0));
     console.log('done');`,
    0,
    /^done\n$/,
  );
});

test('an open promise keeps the process alive until it settles', async () => {
  await endsWith(
    `const engine = await native.openEngine(f.ENGINE_OPTIONS);
     const session = native.openScratchSession(engine);
     native.appendLogits(session, Uint32Array.from(long.ids.slice(0, 600)), Float64Array.of(0))
       .then((logits) => console.log(logits.length));`,
    0,
    /^4096\n$/,
  );
});

test('a worker thread that is terminated in the middle of a chunk frees what it held', async () => {
  await endsWith(
    `const worker = new Worker(
       ${JSON.stringify(REGISTER + PRELUDE + `await startChunk(); parentPort.postMessage('working');`)},
       { eval: true });
     await new Promise((resolve, reject) => { worker.on('message', resolve); worker.on('error', reject); });
     console.log(store.status().mappings > 0);
     await worker.terminate();
     const { mappings, mappedBytes, privateBytes } = store.status();
     console.log(JSON.stringify({ mappings, mappedBytes, privateBytes }));
     const session = native.openScratchSession(await native.openEngine(f.ENGINE_OPTIONS));
     await native.appendLogits(session, Uint32Array.of(1), Float64Array.of(0));
     console.log('main goes on');`,
    0,
    /^true\n\{"mappings":0,"mappedBytes":0,"privateBytes":0\}\nmain goes on\n$/,
  );
});
