import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT } from './root.mjs';

/** Becomes the command line program, in this process: its signals and exit status are ours. */
export async function runCli(args) {
  // `npm run` changes to the package's folder; paths on the command line mean the caller's.
  if (process.env.INIT_CWD) process.chdir(process.env.INIT_CWD);
  const entry = join(ROOT, 'dist', 'services', 'cli', 'main.js');
  process.argv = [process.argv[0], entry, ...args];
  await import(pathToFileURL(entry).href);
}
