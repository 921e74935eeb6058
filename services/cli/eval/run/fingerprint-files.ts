import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ServingError } from '../../../domain/serving-error.js';
import { describeError } from '../../output/describe-error.js';

/** The files of a model folder that decide its ids. */
const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'];

/**
 * 32 hex digits over names and bytes of files of any size.
 * @throws ServingError BAD_REQUEST for what cannot be read
 */
export async function filesFingerprint(paths: readonly string[]): Promise<string> {
  const whole = createHash('sha256');
  for (const path of paths) {
    const one = createHash('sha256');
    try {
      for await (const piece of createReadStream(path)) one.update(piece as Buffer);
    } catch (error) {
      throw new ServingError('BAD_REQUEST', `cannot read ${path}: ${describeError(error)}`);
    }
    whole.update(`${basename(path)}\n${one.digest('hex')}\n`);
  }
  return whole.digest('hex').slice(0, 32);
}

/** 32 hex digits over texts in their order. */
export function textsFingerprint(texts: readonly string[]): string {
  return digestOf(texts.map((text) => ['', Buffer.from(text)]));
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
