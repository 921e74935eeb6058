import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Stop, runQuietly } from './run.mjs';

const INCLUDE_FOLDERS = ['/usr/include', '/usr/local/include'];

const program = (name) => () =>
  (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, name)));
const header = (name) => () => INCLUDE_FOLDERS.some((folder) => existsSync(join(folder, name)));
const pythonModules =
  (...names) =>
  () =>
    spawnSync('/usr/bin/python3', ['-c', `import ${names.join(', ')}`], { stdio: 'ignore' })
      .status === 0;

/**
 * What the build and the services need from the system. Each is looked for by what is used of it,
 * not by a package name, so other distributions and hand-made installs count.
 */
const BUILD_NEEDS = [
  { debianPackage: 'cmake', isThere: program('cmake') },
  { debianPackage: 'g++', isThere: program('g++') },
  { debianPackage: 'ninja-build', isThere: program('ninja') },
  { debianPackage: 'pkg-config', isThere: program('pkg-config') },
  { debianPackage: 'redis-server', isThere: program('redis-server') },
  { debianPackage: 'libdnnl-dev', isThere: header('dnnl.hpp') },
  { debianPackage: 'nlohmann-json3-dev', isThere: header('nlohmann/json.hpp') },
  { debianPackage: 'libisal-dev', isThere: header('isa-l.h') },
];

/** What only the tests need. */
const TEST_NEEDS = [
  { debianPackage: 'libgtest-dev', isThere: header('gtest/gtest.h') },
  { debianPackage: 'clang-format', isThere: program('clang-format') },
  { debianPackage: 'python3-grpcio', isThere: pythonModules('grpc') },
  { debianPackage: 'python3-grpc-tools', isThere: pythonModules('grpc_tools.protoc') },
];

/** Debian packages that are missing, by name. */
export function missingSystemPackages({ tests }) {
  const needs = tests ? [...BUILD_NEEDS, ...TEST_NEEDS] : BUILD_NEEDS;
  return needs.filter((need) => !need.isThere()).map((need) => need.debianPackage);
}

/** Whether packages can be installed without a question: as root, with apt. */
const mayInstallPackages = () => process.getuid?.() === 0 && program('apt-get')();

/**
 * Installs the packages, where `mayInstall`.
 * @throws Stop with the command to type, elsewhere
 */
export async function installSystemPackages(packages, mayInstall = mayInstallPackages()) {
  const install = ['install', '-y', '--no-install-recommends', ...packages];
  if (!mayInstall) {
    throw new Stop(
      `Longshadow needs these Debian packages: ${packages.join(' ')}\nInstall them, then run this again:\n\n` +
        `  sudo apt-get update && sudo apt-get ${install.join(' ')}\n`,
    );
  }
  const patience = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  await runQuietly('apt-get', [...patience, 'update'], { env });
  await runQuietly('apt-get', [...patience, ...install], { env });
}
