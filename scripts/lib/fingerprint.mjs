import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from './root.mjs';

/** Files under `folder` (relative to the root) whose path passes `keep`, sorted; [] if absent. */
export function filesUnder(folder, keep = () => true) {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(ROOT.length + 1))
    .filter(keep)
    .sort();
}

/** SHA-256 over names and contents, so that a rename or a removal counts as a change. */
export function fingerprint(files, ...extra) {
  const hash = createHash('sha256');
  for (const text of extra) hash.update(`${text}\0`);
  for (const file of files) {
    hash.update(`${file}\0`);
    hash.update(readFileSync(join(ROOT, file)));
    hash.update('\0');
  }
  return hash.digest('hex');
}

/** Whether `stamp` (a path relative to the root) holds `value`. */
export function stampHolds(stamp, value) {
  const path = join(ROOT, stamp);
  return existsSync(path) && readFileSync(path, 'utf8') === value;
}

/** Remembers `value`: the step that it stands for has ended well. */
export function writeStamp(stamp, value) {
  const path = join(ROOT, stamp);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, value);
}
