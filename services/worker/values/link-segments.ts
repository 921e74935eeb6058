import type { Stats } from 'node:fs';
import { link, lstat, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../../domain/serving-error.js';
import type { TokenRange } from '../../domain/token-range.js';
import {
  checkOwnFolder,
  ifPresent,
  isOwn,
  makeOwnFolder,
  removeIfEmpty,
  sessionFolder,
  systemCode,
} from './session-folder.js';

/** A finished K file; numbers have no leading zeros. Its V file has the same name but for the end. */
const KEYS_FILE = /^(0|[1-9]\d*)-(0|[1-9]\d*)-(0|[1-9]\d*)-(0|[1-9]\d*)\.k$/;
/** Tries of a link whose folder another process removed, being empty. */
const LINK_TRIES = 3;

/** One plan of a session: whose files they are. */
export interface SessionPlan {
  readonly sessionId: string;
  readonly epoch: number;
}

/** K and V of one chunk, as they lie in a session's folder. */
export interface StoredSegment extends TokenRange {
  /** Of both files. */
  readonly bytes: number;
}

export interface LinkedSegments {
  /** In order of position, from the range's begin to its end. */
  readonly segments: readonly StoredSegment[];
  /** Takes back what this call linked. */
  readonly undo: () => Promise<void>;
}

/**
 * Finished segments of a plan that follow one another over exactly `range`; null unless all are there.
 * Only regular files of ours that nobody else can open count.
 */
export async function findSegments(
  directory: string,
  plan: SessionPlan,
  stage: number,
  range: TokenRange,
): Promise<StoredSegment[] | null> {
  const folder = sessionFolder(directory, plan.sessionId);
  const names = await ifPresent(
    checkOwnFolder(folder).then(async () => readdir(folder)),
    [],
  );
  const endsByBegin = new Map<number, number>();
  for (const name of names) {
    const [epoch, itsStage, begin, end] = (KEYS_FILE.exec(name) ?? []).slice(1).map(Number);
    if (epoch !== plan.epoch || itsStage !== stage) continue;
    if (begin !== undefined && end !== undefined) endsByBegin.set(begin, end);
  }
  const segments: StoredSegment[] = [];
  let beginToken = range.beginToken;
  while (beginToken < range.endToken) {
    const endToken = endsByBegin.get(beginToken);
    if (endToken === undefined || endToken <= beginToken) return null;
    const bytes = await segmentBytes(folder, segmentNames(plan.epoch, stage, beginToken, endToken));
    if (bytes === null) return null;
    segments.push({ beginToken, endToken, bytes });
    beginToken = endToken;
  }
  return beginToken === range.endToken ? segments : null;
}

/**
 * Links segments of one plan into the folder of another session, or of the same one, under the name
 * of its plan. All or nothing. Files that are linked already are fine.
 *
 * @throws ServingError SESSION_NOT_FOUND if a file of the source is gone; SESSION_BUSY if the taker has
 *   another file there; VALUE_STORE_FULL
 */
export async function linkSegments(
  directory: string,
  source: SessionPlan,
  taker: SessionPlan,
  stage: number,
  segments: readonly StoredSegment[],
): Promise<LinkedSegments> {
  const from = sessionFolder(directory, source.sessionId);
  const to = sessionFolder(directory, taker.sessionId);
  const made: string[] = [];
  const undo = async (): Promise<void> => {
    // K first: a segment without its K file is none.
    for (const path of made.reverse()) await ifPresent(unlink(path), undefined);
    await removeIfEmpty(to);
  };
  try {
    for (const { beginToken, endToken } of segments) {
      const sources = segmentNames(source.epoch, stage, beginToken, endToken);
      const takers = segmentNames(taker.epoch, stage, beginToken, endToken);
      for (const [index, name] of sources.entries()) {
        const path = join(to, takers[index] ?? name);
        if (await linkFile(join(from, name), to, path)) made.push(path);
      }
    }
  } catch (error) {
    await undo();
    throw linkFailure(error);
  }
  return { segments, undo };
}

/** V before K, the order in which they are named: a segment counts once its K file is there. */
function segmentNames(epoch: number, stage: number, begin: number, end: number): string[] {
  const stem = [epoch, stage, begin, end].map(String).join('-');
  return [`${stem}.v`, `${stem}.k`];
}

async function segmentBytes(folder: string, names: readonly string[]): Promise<number | null> {
  const files = await Promise.all(names.map(async (name) => ownFile(join(folder, name))));
  return files.reduce<number | null>(
    (sum, file) => (sum === null || file === null ? null : sum + file.size),
    0,
  );
}

/** Null for what is gone, or is no regular file of ours alone. */
async function ownFile(path: string): Promise<Stats | null> {
  const found = await ifPresent(lstat(path), null);
  return found !== null && found.isFile() && isOwn(found) ? found : null;
}

/** @returns false if the taker has this very file already */
async function linkFile(source: string, folder: string, target: string): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    const file = await ownFile(source);
    if (file === null) throw sourceGone();
    await makeOwnFolder(folder);
    try {
      await link(source, target);
      return true;
    } catch (error) {
      const code = systemCode(error);
      // The source went after the look at it, or the taker's folder, still empty, with a release.
      if (code === 'ENOENT' && tries < LINK_TRIES) continue;
      if (code !== 'EEXIST') throw error;
    }
    const there = await ownFile(target);
    if (there?.ino === file.ino && there.dev === file.dev) return false;
    throw new ServingError('SESSION_BUSY', 'the session has another segment at these positions');
  }
}

export function sourceGone(): ServingError {
  return new ServingError(
    'SESSION_NOT_FOUND',
    'the source does not hold all segments of this range here any more',
  );
}

function linkFailure(error: unknown): unknown {
  switch (systemCode(error)) {
    case 'ENOENT':
      return sourceGone();
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EMLINK':
      return new ServingError(
        'VALUE_STORE_FULL',
        'the value store has no room for another link',
        {
          retryAfterMs: 10_000,
          quota: { subject: 'value store files', description: 'links and inodes of the store' },
        },
        { cause: error },
      );
    default:
      return error;
  }
}
