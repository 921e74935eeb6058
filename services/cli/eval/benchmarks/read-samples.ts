import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { ServingError } from '../../../domain/serving-error.js';
import { describeError } from '../../output/describe-error.js';
import type { BenchmarkSample } from './benchmark-types.js';
import type { TaskFile } from './find-task-files.js';

const NEWLINE = 0x0a;

/** Where a line is in its file. */
export interface LinePlace {
  /** From 1. */
  readonly number: number;
  readonly beginByte: number;
  readonly endByte: number;
}

/**
 * Reads a task's samples one by one, so that files of gigabytes can be listed. Empty lines are
 * passed over.
 *
 * @throws ServingError BAD_REQUEST naming file, line and field of what is wrong
 */
export async function* readSamples(
  file: TaskFile,
): AsyncGenerator<{ readonly place: LinePlace; readonly sample: BenchmarkSample }> {
  for await (const { place, bytes } of readLines(file.path)) {
    const text = decode(file, place, bytes);
    if (text.trim() !== '') yield { place, sample: parse(file, place, text) };
  }
}

/** Reads one line again. @throws ServingError BAD_REQUEST if the file is no longer what it was */
export async function readSampleAt(file: TaskFile, place: LinePlace): Promise<BenchmarkSample> {
  const bytes = Buffer.alloc(place.endByte - place.beginByte);
  const handle = await open(file.path).catch((error: unknown) => {
    throw unreadable(file.path, error);
  });
  try {
    await handle.read(bytes, 0, bytes.length, place.beginByte);
  } finally {
    await handle.close();
  }
  return parse(file, place, decode(file, place, bytes));
}

async function* readLines(
  path: string,
): AsyncGenerator<{ readonly place: LinePlace; readonly bytes: Buffer }> {
  let pieces: Buffer[] = [];
  let [number, beginByte] = [1, 0];
  const line = (): { place: LinePlace; bytes: Buffer } => {
    const bytes = Buffer.concat(pieces);
    return { place: { number, beginByte, endByte: beginByte + bytes.length }, bytes };
  };
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) {
      let rest = chunk as Buffer;
      for (let at = rest.indexOf(NEWLINE); at !== -1; at = rest.indexOf(NEWLINE)) {
        pieces.push(rest.subarray(0, at));
        const whole = line();
        yield whole;
        [number, beginByte, pieces] = [number + 1, whole.place.endByte + 1, []];
        rest = rest.subarray(at + 1);
      }
      pieces.push(rest);
    }
  } catch (error) {
    if (error instanceof ServingError) throw error;
    throw unreadable(path, error);
  }
  yield line();
}

function decode(file: TaskFile, place: LinePlace, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw wrongLine(file, place, 'is not UTF-8');
  }
}

function parse(file: TaskFile, place: LinePlace, text: string): BenchmarkSample {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw wrongLine(file, place, 'is not JSON');
  }
  try {
    return file.task.parse(value);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    const [issue] = error.issues;
    const field = issue?.path.join('.') ?? '';
    const where = field === '' ? '' : `field "${field}": `;
    throw wrongLine(file, place, `${where}${issue?.message ?? 'is no sample'}`);
  }
}

function wrongLine(file: TaskFile, place: LinePlace, what: string): ServingError {
  return new ServingError(
    'BAD_REQUEST',
    `${file.path}, line ${place.number}: ${what}; each line must be a sample of ${file.task.name} as published`,
  );
}

function unreadable(path: string, error: unknown): ServingError {
  return new ServingError(
    'BAD_REQUEST',
    `cannot read ${path}: ${describeError(error)}`,
    {},
    { cause: error },
  );
}
