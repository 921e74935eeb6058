import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../../../domain/serving-error.js';
import { describeError } from '../../output/describe-error.js';

/** The files of a model folder that decide its ids. */
const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'];

/**
 * 32 hex digits over a file, or over the files of a folder (not those of its folders), with their names.
 * @throws ServingError BAD_REQUEST for what cannot be read
 */
export async function fingerprintOf(path: string): Promise<string> {
  try {
    if (!(await stat(path)).isDirectory()) return digestOf([['', await readFile(path)]]);
    const entries = await readdir(path, { withFileTypes: true });
    const names = entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
    return await folderDigest(path, names.sort());
  } catch (error) {
    throw new ServingError('BAD_REQUEST', `cannot read ${path}: ${describeError(error)}`);
  }
}

/** 32 hex digits over names and sizes of the files of folders; their bytes may be gigabytes. */
export async function listingFingerprint(folders: readonly string[]): Promise<string> {
  const whole = createHash('sha256');
  for (const folder of folders) {
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    const names = entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
    for (const name of names.sort()) {
      const { size } = await stat(join(folder, name));
      whole.update(`${name} ${String(size)}\n`);
    }
  }
  return whole.digest('hex').slice(0, 32);
}

/** 32 hex digits over what makes a model's ids. */
export async function tokenizerFingerprint(directory: string): Promise<string> {
  const names = await readdir(directory);
  return folderDigest(
    directory,
    TOKENIZER_FILES.filter((name) => names.includes(name)),
  );
}

async function folderDigest(path: string, names: readonly string[]): Promise<string> {
  const files: [string, Buffer][] = [];
  for (const name of names) files.push([name, await readFile(join(path, name))]);
  return digestOf(files);
}

function digestOf(files: readonly (readonly [string, Buffer])[]): string {
  const whole = createHash('sha256');
  for (const [name, bytes] of files) {
    whole.update(`${name}\n${createHash('sha256').update(bytes).digest('hex')}\n`);
  }
  return whole.digest('hex').slice(0, 32);
}
