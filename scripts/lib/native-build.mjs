import { existsSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './root.mjs';
import { runQuietly } from './run.mjs';

/** Sanitizers make -O3 several times slower to compile, and -O0 too slow to run. */
const SANITIZED = [
  '-DLONGSHADOW_SANITIZE=ON',
  '-DCMAKE_BUILD_TYPE=Debug',
  '-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1',
];

/**
 * Builds C++ tests or benchmarks with plain CMake, apart from the add-on.
 *
 * @param options.folder    build folder, relative to the root
 * @param options.targets   what to build
 * @param options.sanitize  with AddressSanitizer and UBSan
 * @throws Stop with the compiler's messages
 */
export async function buildNative({ folder, targets, sanitize = false }) {
  forgetOtherCheckout(folder);
  await runQuietly('cmake', [
    ...['-S', '.', '-B', folder, '-G', 'Ninja', '-DLONGSHADOW_TESTS=ON'],
    ...(sanitize ? SANITIZED : ['-DCMAKE_BUILD_TYPE=Release']),
  ]);
  const jobs = String(availableParallelism());
  await runQuietly('cmake', ['--build', folder, '--parallel', jobs, '--target', ...targets]);
}

/**
 * CMake refuses a build folder that another generator, or a checkout elsewhere, has configured.
 * Only its own notes go: other build folders may lie inside this one.
 */
export function forgetOtherCheckout(folder) {
  const cache = join(ROOT, folder, 'CMakeCache.txt');
  if (!existsSync(cache)) return;
  const text = readFileSync(cache, 'utf8');
  const isOurs =
    text.includes('CMAKE_GENERATOR:INTERNAL=Ninja\n') &&
    text.includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${ROOT}\n`);
  if (isOurs) return;
  rmSync(cache);
  rmSync(join(ROOT, folder, 'CMakeFiles'), { recursive: true, force: true });
}
