import { existsSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { filesUnder, fingerprint, stampHolds, writeStamp } from './fingerprint.mjs';
import { forgetOtherCheckout } from './native-build.mjs';
import { ROOT, npmProgram } from './root.mjs';
import { Stop, runQuietly } from './run.mjs';
import { installSystemPackages, missingSystemPackages } from './system-packages.mjs';

const STAMP = 'node_modules/.longshadow-stamp';
const PROTO_STAMP = 'proto/gen/.stamp';
const ADDON_STAMP = 'build/.addon-stamp';
const TYPESCRIPT_STAMP = 'dist/.stamp';

const ADDON = 'build/Release/addon.node';
const CLI = 'dist/services/cli/main.js';

const isProto = (path) => path.endsWith('.proto');
const isNativeSource = (path) => !path.startsWith('native/ts/');
const isTypeScript = (path) => path.endsWith('.ts');

/** Messages and services that TypeScript gets types of. */
export const protoFiles = () => filesUnder('proto/longshadow', isProto);

const npmInputs = () => fingerprint(['package-lock.json'], process.version);
const protoInputs = () => fingerprint(protoFiles(), npmInputs());
const addonInputs = () =>
  fingerprint(['CMakeLists.txt', ...filesUnder('native', isNativeSource)], npmInputs());
const typescriptInputs = () =>
  fingerprint(
    [
      'tsconfig.json',
      'tsconfig.build.json',
      ...filesUnder('services', isTypeScript),
      ...filesUnder('native/ts', isTypeScript),
    ],
    protoInputs(),
  );

/**
 * Steps from a fresh clone to a cluster that runs, in order. `isDone` is cheap; `run` is called
 * when it is false. Each is skipped when what goes into it has not changed.
 */
export function buildSteps({ tests }) {
  return [
    {
      name: 'system packages',
      isDone: () => missingSystemPackages({ tests }).length === 0,
      run: () => installSystemPackages(missingSystemPackages({ tests })),
    },
    {
      name: 'npm packages',
      isDone: () => stampHolds(STAMP, npmInputs()),
      run: installNpmPackages,
    },
    {
      name: 'wire types',
      isDone: () => stampHolds(PROTO_STAMP, protoInputs()),
      run: generateWireTypes,
    },
    {
      name: 'native add-on',
      isDone: () => existsSync(join(ROOT, ADDON)) && stampHolds(ADDON_STAMP, addonInputs()),
      run: buildAddon,
    },
    {
      name: 'TypeScript',
      isDone: () => existsSync(join(ROOT, CLI)) && stampHolds(TYPESCRIPT_STAMP, typescriptInputs()),
      run: compileTypeScript,
    },
  ];
}

/** Whether there is anything to run, however old. */
export function isBuilt() {
  return existsSync(join(ROOT, ADDON)) && existsSync(join(ROOT, CLI));
}

async function installNpmPackages() {
  // Development packages are compilers and the demo's book: wanted under NODE_ENV=production too.
  await runQuietly('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=warn']);
  writeStamp(STAMP, npmInputs());
}

/** Types of messages and services for grpc-js; proto-loader reads the .proto files at run time. */
export async function generateWireTypes() {
  rmSync(join(ROOT, 'proto', 'gen'), { recursive: true, force: true });
  const files = protoFiles().map((path) => path.slice('proto/'.length));
  await runQuietly(npmProgram('proto-loader-gen-types'), [
    ...['--longs=String', '--enums=String', '--bytes=Buffer', '--defaults', '--oneofs'],
    ...['--grpcLib=@grpc/grpc-js', '--importFileExtension=.js'],
    ...['--includeDirs=proto', '--outDir=proto/gen', ...files],
  ]);
  writeStamp(PROTO_STAMP, protoInputs());
}

async function buildAddon() {
  const inputs = addonInputs();
  forgetOtherCheckout('build');
  const jobs = String(availableParallelism());
  await runQuietly(npmProgram('cmake-js'), ['build', '--target', 'addon', '--parallel', jobs]);
  if (!existsSync(join(ROOT, ADDON))) throw new Stop(`the build ended without ${ADDON}`);
  writeStamp(ADDON_STAMP, inputs);
}

export async function compileTypeScript() {
  const inputs = typescriptInputs();
  await runQuietly(npmProgram('tsc'), ['-p', 'tsconfig.build.json']);
  removeOrphans();
  writeStamp(TYPESCRIPT_STAMP, inputs);
}

/** tsc leaves the output of a source file that is gone; a later import would still find it. */
function removeOrphans() {
  for (const path of filesUnder('dist', (name) => /\.js(\.map)?$/.test(name))) {
    const source = path.slice('dist/'.length).replace(/\.js(\.map)?$/, '.ts');
    if (!existsSync(join(ROOT, source))) rmSync(join(ROOT, path));
  }
}
